#!/bin/bash
# What dkms 3.2.2 does to build (do_build): patch, run PRE_BUILD, make; run by bash in the sandbox.
#
#     DIRECTORY MAKE PRE_BUILD [PATCH ...] -- [MODULE FILE ...]
#
# MODULE is a path below DIRECTORY, FILE the name to install it by. What is being done is in .lkm/stage; copies of the
# modules without debug info are left in .lkm/stripped.
# shellcheck disable=SC2154

directory=$1 command=$2 script=$3
shift 3
cd "$directory" && rm -rf .lkm && mkdir -p .lkm/stripped && : >.lkm/started || exit 126
export -n kernelver arch kernel_source_dir kernel_config dkms_tree source_tree install_tree module module_version

stage() {
    printf '%s\n' "$*" >.lkm/stage
    printf '# %s\n' "$*"
}

while [[ $# -gt 0 && $1 != -- ]]; do
    stage "PATCH $1"
    [[ patches/$1 != */../* ]] || exit 5
    patch -p1 <"patches/$1" || exit 6
    shift
done
shift
if [[ $script ]]; then
    stage "PRE_BUILD $script"
    script=$directory/$script
    if [[ -x ${script%% *} ]]; then
        (eval "$script") || exit
    else
        echo "dkms.conf: warning: PRE_BUILD is not executable, and dkms does not run it"
    fi
fi
stage "MAKE $command"
(eval "$command") || exit
stage strip
while [[ $# -gt 0 ]]; do
    # BTF goes unless the module registers kfuncs: a module built where there is no vmlinux has none either.
    btf=(-R .BTF -R .BTF.base)
    if [[ -f $1 ]]; then
        grep -q '\.BTF_ids' "$1" && btf=()
        strip --strip-debug "${btf[@]}" -o ".lkm/stripped/$2" "$1" || exit
    fi
    shift 2
done
