. /scripts/measure.sh
measured untar tar -xf /scripts/archive/made.tar -C /
