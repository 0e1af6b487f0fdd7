# What one RUN deletes and replaces is so in the next: make, remove, look.
group=whiteouts-$1
. /functional/shell.sh
here=/var/whiteouts

make_them() {
    mkdir -p $here/gone/deep $here/emptied $here/replaced $here/kept
    for file in gone/deep/f emptied/a emptied/b replaced/old kept/a kept/b kept/c; do echo 1 >$here/$file; done
    ln $here/kept/a $here/kept/hard
    ln -s a $here/kept/soft
    echo file >$here/becomes-directory
    mkdir $here/becomes-file
    echo 1 >$here/becomes-file/inside
}

remove_them() {
    rm -r $here/gone
    rm $here/emptied/*
    rm -r $here/replaced
    mkdir $here/replaced
    echo 2 >$here/replaced/new
    rm $here/kept/b
    mv $here/kept/c $here/kept/d
    rm $here/becomes-directory && mkdir $here/becomes-directory && echo 2 >$here/becomes-directory/inside
    rm -r $here/becomes-file && echo file >$here/becomes-file
    rm /etc/debian_version
    test "$(ls $here)" = "becomes-directory
becomes-file
emptied
kept
replaced"
}

look_at_them() {
    cd $here
    test "$(find . | sort | tr '\n' ' ')" = ". ./becomes-directory ./becomes-directory/inside ./becomes-file ./emptied ./kept ./kept/a ./kept/d ./kept/hard ./kept/soft ./replaced ./replaced/new "
    test "$(stat -c %h kept/a kept/hard | sort -u)" = 2
    test kept/a -ef kept/hard
    test "$(cat kept/soft kept/d replaced/new becomes-directory/inside becomes-file | tr '\n' ' ')" = "1 1 2 2 file "
    test ! -e /etc/debian_version
    mkdir gone && echo again >gone/f && test "$(ls gone)" = f
    rm -r $here
}

case $1 in
    make) check "files, directories and links are made" make_them ;;
    remove) check "they are deleted, emptied, replaced, renamed" remove_them ;;
    look) check "the next RUN finds it so" look_at_them ;;
esac
checked
