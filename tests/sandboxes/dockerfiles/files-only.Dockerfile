# No RUN: builds in every sandbox, with owners, devices and capabilities recorded.
FROM BASE
COPY --chown=1234:5678 --chmod=4711 note /opt/note
COPY --link functional /opt/functional
ADD owners.tar /added/
WORKDIR /opt/made/here
USER 4321
ENV A=1
LABEL b=2
