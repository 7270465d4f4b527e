# The toolbox where this machine has no static busybox for the engine's architecture: from the
# official image, which the engine pulls.
FROM busybox:musl
RUN mkdir /toolbox && cp /bin/busybox /toolbox/busybox
ENV PATH=/bin
WORKDIR /
CMD ["sh"]
