. /scripts/measure.sh
compile() { for ((number = 0; number < COMPILES; number++)); do gcc -O1 -o "/made-$number" /made.c || return 1; done; }
measured compile compile
