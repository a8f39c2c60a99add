// ferrule: name=next version=1.0.0 description="Counts on"
// ferrule: fn=next in=json out=json
export function next(n) {
	return n + 1;
}
