# One PASS or FAIL line for each check, as harness.py prints them. Source it and
# end with `checked`.
passed=0
count=0

# check NAME COMMAND…: the command in a shell of its own, `set -e` in force.
check() {
    name=$1
    shift
    count=$((count + 1))
    if said=$(set -e; "$@" 2>&1); then
        passed=$((passed + 1))
        echo "PASS $group: $name"
    else
        echo "FAIL $group: $name: $(printf %s "$said" | tail -n 5 | tr '\n' ' ')"
    fi
}

checked() {
    echo "CHECKED $group: $passed of $count"
}
