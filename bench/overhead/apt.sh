. /scripts/measure.sh
export APT_CONFIG=/scripts/apt.conf DEBIAN_FRONTEND=noninteractive
install() { apt-get update && apt-get install gcc libc6-dev; }
measured apt install
