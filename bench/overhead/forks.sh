. /scripts/measure.sh
forks() { for ((number = 0; number < FORKS; number++)); do /bin/true || return 1; done; }
measured forks forks
