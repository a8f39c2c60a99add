package abi

// Nearest returns the candidate that whoever wrote name is likely to have meant, for the remedy of an error; "" when none is near:
// one of which a few bytes differ, fewer in short names. Of several that are as near it is the first.
func Nearest(name string, candidates []string) string {
	best, distance := "", 1+min(3, 1+len(name)/4)
	for _, c := range candidates {
		if d := editDistance(name, c, distance); d < distance {
			best, distance = c, d
		}
	}
	return best
}

// editDistance returns how many bytes to add, drop or change to turn a into b, or limit when that many or more.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return min(row[len(b)], limit)
}
