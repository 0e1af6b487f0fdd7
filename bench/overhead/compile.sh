. /scripts/measure.sh
printf '#include <stdio.h>\nint main(void) { puts("made"); }\n' >/made.c
compile() { for ((number = 0; number < COMPILES; number++)); do gcc -O1 -o "/made-$number" /made.c || return 1; done; }
measured compile compile
