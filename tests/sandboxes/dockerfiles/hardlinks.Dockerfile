# Groups of hard links: made, extended in a later step, written through, dissolved.
# How many names a file has is asked in the step after: on overlay a group of a
# lower layer is split until then (README, "Limits").
FROM BASE
RUN mkdir -p /l/d && echo one > /l/a && ln /l/a /l/b && ln /l/a /l/d/c && echo two > /l/x && ln /l/x /l/y && ln -s a /l/s && ln -P /l/s /l/t && mkfifo /l/p && ln /l/p /l/q
RUN test "$(stat -c %h /l/a /l/x /l/t /l/q | xargs)" = "3 2 2 2" && ln /l/b /l/e && rm /l/y
RUN test "$(stat -c %h /l/a)" = 4 && test /l/e -ef /l/d/c && rm /l/a
RUN test /l/b -ef /l/d/c && echo more >> /l/b
RUN test "$(cat /l/e)" = "$(cat /l/b)" && chown 5:6 /l/e && test ! -e /l/a
