. /scripts/measure.sh
mkdir /made
for ((directory = 0; directory < FILES / 100; directory++)); do
    mkdir "/made/$directory"
    for ((file = 0; file < 100; file++)); do echo "file $file of directory $directory" >"/made/$directory/$file"; done
done
tar -cf /made.tar -C / made
rm -r /made
printf '#include <stdio.h>\nint main(void) { puts("made"); }\n' >/made.c
