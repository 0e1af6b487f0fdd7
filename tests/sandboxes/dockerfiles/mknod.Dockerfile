# Device nodes, made, renamed, given away, replaced.
FROM BASE
RUN mkdir /n && mknod /n/c c 1 5 && mknod -m 600 /n/b b 7 3 && mknod /n/p p && mv /n/c /n/zero && chown 0:6 /n/b && chmod 660 /n/b
RUN mknod /n/null.new c 1 3 && mv /n/null.new /n/null && mknod /n/short c 5 0 && rm /n/short && echo text > /n/short && rm /n/p && test ! -f /n/p
