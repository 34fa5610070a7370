# flowctl as one static program: the control plane (server), plan and what else
# needs nothing of the machine. scripts/build-docker-images.sh makes
# .image/rootfs.tar. A tar, because builders keep the times and owners of what is
# in one: the same files make the same layer.
FROM scratch
LABEL org.opencontainers.image.title="flowctl" \
      org.opencontainers.image.description="Runs data pipelines: a control plane, and components in dependency order" \
      org.opencontainers.image.source="https://github.com/withobsrvr/flowctl" \
      org.opencontainers.image.licenses="Apache-2.0"
ADD .image/rootfs.tar /
# What flowctl server keeps: its database and the operators' token.
ENV XDG_STATE_HOME=/var/lib
VOLUME /var/lib/flowctl
# Where a pipeline's folder is to be mounted.
WORKDIR /pipeline
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/bin/flowctl"]
