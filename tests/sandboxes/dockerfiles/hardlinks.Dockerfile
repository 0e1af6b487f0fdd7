# Groups of hard links: made, extended in a later step, written through, dissolved.
FROM BASE
RUN mkdir -p /l/d && echo one > /l/a && ln /l/a /l/b && ln /l/a /l/d/c && echo two > /l/x && ln /l/x /l/y && ln -s a /l/s && ln -P /l/s /l/t && mkfifo /l/p && ln /l/p /l/q
RUN ln /l/b /l/e && rm /l/y && test "$(stat -c %h /l/a /l/x | xargs)" = "4 1"
RUN rm /l/a && mv /l/b /l/f && test "$(stat -c %h /l/f)" = 3 && test /l/f -ef /l/d/c && test "$(stat -c %h /l/t /l/q | xargs)" = "2 2"
RUN echo more >> /l/f && chown 5:6 /l/e
