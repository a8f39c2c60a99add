// What is scrolled in a box of its own is reached by the keyboard, too, in browsers that do not see to that themselves.
for (const box of document.querySelectorAll("pre, .table-wrapper")) {
	const look = () => box.scrollWidth > box.clientWidth ? box.setAttribute("tabindex", "0") : box.removeAttribute("tabindex");
	look();
	new ResizeObserver(look).observe(box);
}
