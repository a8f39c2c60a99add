/* Gives a DLL an import and a delayed import, without the libraries that it names. */
__declspec(dllimport) int now(void);
__declspec(dllimport) int later(void);
__declspec(dllexport) int needs(void) { return now() + later(); }

/* What the compiler's delayimp.lib has. */
void *__delayLoadHelper2(void *descriptor, void *slot) {
    (void)descriptor;
    return slot;
}
