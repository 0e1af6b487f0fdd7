. /scripts/measure.sh
measured untar tar -xf /made.tar -C /
