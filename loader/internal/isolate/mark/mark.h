#include "go_asm.h"
#include "textflag.h"

// WORDS ends a function and is what its mark says. LENGTH4 is the directive for four bytes.
#define WORDS(LENGTH4, kind) \
	RET; \
	LENGTH4 $const_word1; LENGTH4 $const_word2; LENGTH4 $const_word3; LENGTH4 $const_word4; \
	LENGTH4 $kind; LENGTH4 $const_Version
