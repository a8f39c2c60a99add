# Counts the instructions of the SDK's helpers with valgrind, which do not depend on the machine's mood: for each function
# of tests/helpers.c named below, what one call of it costs with 64 bytes of input, beyond what the host needs.
. tests/common.sh

need valgrind valgrind || exit 1
run cc -O2 $INCLUDES -shared -fPIC -o "$BUILD/helpers.so" tests/helpers.c
run cc -O2 $INCLUDES -o "$BUILD/calls" tests/calls.c -ldl

count() { # FUNCTION CALLS
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$BUILD/calls" "$BUILD/helpers.so" "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : *\([0-9]*\).*/\1/p'
}
echo "instructions  helper, of one call with 64 bytes"
for fn in reply_not_at_all reply reply_text replyf fail reserve; do
    few=$(count ferrule_fn_$fn 1000)
    many=$(count ferrule_fn_$fn 2000)
    printf '%12d  %s\n' $(((many - few) / 1000)) "$fn"
done
