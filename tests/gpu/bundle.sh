# Claim: the bundle is at most 60 MiB and screens a phantom in an otherwise empty chroot: no shell, no packages, no /proc; and says there
# what is missing for a GPU.
source "$COVPIPE_SOURCE/tests/lib.sh"
[ "$(id -u)" -eq 0 ] || skip "a chroot needs root"
[ -z "${COVPIPE_SANITIZED:-}" ] || skip "not with sanitizers"
expect 0 bash "$COVPIPE_SOURCE/scripts/bundle.sh" "$COVPIPE_BUILD" "$SCRATCH/bundle.tar.gz"
mkdir -p root/tmp
tar -C root -xzf bundle.tar.gz
b=/covpipe
inside() {
    env -i HOME=/tmp OPAL_PREFIX=$b OMPI_MCA_mca_base_component_path=$b/lib/openmpi OMPI_MCA_ess_singleton_isolated=1 OMPI_ALLOW_RUN_AS_ROOT=1 \
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 COVPIPE_SHARE=$b/share/covpipe COVPIPE_PLUGINS=$b/lib/covpipe \
        /usr/sbin/chroot root $b/lib/ld-linux-x86-64.so.2 --library-path $b/lib $b/bin/covpipe "$@"
}
expect 0 inside doctor
says "no GPU: "
says "GOMP_SPINCOUNT not set" # a loader runs it, so it cannot start itself once more, and goes on; what people start says it:
expect 0 env -u GOMP_SPINCOUNT -u OMP_WAIT_POLICY root/covpipe/covpipe doctor
says "GOMP_SPINCOUNT 10000"
expect 0 inside phantom --out /tmp/p --studies 1 --size 64 --slices 8 --seed 3
expect 0 inside --archive /tmp/p/archive --out /tmp/c.h5 --model none --axial-only --threads 1
says "1 studies: 1 done"
if [ -e "$COVPIPE_BUILD/covpipe-cuda.so" ]; then
    expect 1 inside --archive /tmp/p/archive --out /tmp/d.h5 --device cuda
    says "libcudart"
fi
rm -rf root bundle.tar.gz
