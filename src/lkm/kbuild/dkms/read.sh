#!/bin/bash
# What a dkms.conf says for one kernel; run by bash in the sandbox. $1 is the file, dkms's variables are in the
# environment.
#
# As dkms 3.2.2 does (safe_source and read_conf), the file is sourced in a shell of its own, each value that dkms knows
# becomes an assignment between double quotes, and the assignments are sourced: a value is expanded twice, and split
# at blanks in between. That is done two times, because the file may use $module, which is its own PACKAGE_NAME.
#
# Printed are records of three fields, each ended by NUL: kind, key, value.
# shellcheck disable=SC1090,SC1091,SC2034,SC2086,SC2154

_lkm_conf=$1
_lkm_values='PACKAGE_NAME PACKAGE_VERSION BUILT_MODULE_NAME BUILT_MODULE_LOCATION DEST_MODULE_NAME
    DEST_MODULE_LOCATION MAKE MAKE_MATCH PATCH PATCH_MATCH PRE_BUILD BUILD_DEPENDS OBSOLETE_BY BUILD_EXCLUSIVE_KERNEL
    BUILD_EXCLUSIVE_KERNEL_MIN BUILD_EXCLUSIVE_KERNEL_MAX BUILD_EXCLUSIVE_CONFIG BUILD_EXCLUSIVE_ARCH build_exclude'
export -n kernelver arch kernel_source_dir kernel_config dkms_tree source_tree install_tree
module='' module_version=''
exec 3>&1 >/dev/null 2>/tmp/said

_lkm_record() { printf '%s\0' "$@" >&3; }

_lkm_assignments() (
    exec 4>&1 >/dev/null 3>&-
    . "$_lkm_conf"
    for _lkm_name in $_lkm_values; do
        declare -n _lkm_each=$_lkm_name
        for _lkm_index in "${!_lkm_each[@]}"; do
            echo ${_lkm_name}[$_lkm_index]=\"${_lkm_each[_lkm_index]%$'\r'}\" >&4
        done
        unset -n _lkm_each
    done
)

_lkm_round() {
    unset -v $_lkm_values
    _lkm_assignments >/tmp/values
    . /tmp/values 3>&-
}

_lkm_matches() { # KIND NAME
    declare -n _lkm_each=$2
    for _lkm_index in "${!_lkm_each[@]}"; do
        [[ $kernelver =~ ${_lkm_each[_lkm_index]} ]] && _lkm_record "$1" "$_lkm_index" "${_lkm_each[_lkm_index]}"
    done
    unset -n _lkm_each
}

_lkm_record started '' ''
_lkm_round
if [[ $PACKAGE_NAME && $PACKAGE_VERSION ]]; then
    module=$PACKAGE_NAME module_version=$PACKAGE_VERSION
    mkdir -p "$dkms_tree/$module/$module_version"
    ln -s "${_lkm_conf%/*}" "$dkms_tree/$module/$module_version/source"
    ln -s source "$dkms_tree/$module/$module_version/build"
    _lkm_round
fi
for _lkm_name in $_lkm_values; do
    declare -n _lkm_each=$_lkm_name
    for _lkm_index in "${!_lkm_each[@]}"; do
        _lkm_record "$_lkm_name" "$_lkm_index" "${_lkm_each[_lkm_index]}"
    done
    unset -n _lkm_each
done
_lkm_matches match-make MAKE_MATCH
_lkm_matches match-patch PATCH_MATCH
_lkm_matches match-kernel BUILD_EXCLUSIVE_KERNEL
[[ $arch =~ $BUILD_EXCLUSIVE_ARCH ]] && _lkm_record match-arch 0 "$BUILD_EXCLUSIVE_ARCH"
for _lkm_name in $BUILD_EXCLUSIVE_CONFIG; do
    grep -q "^${_lkm_name#!}=[ym]" "$kernel_config" && _lkm_record set 0 "$_lkm_name"
done
_lkm_record said 0 "$(head -c 4096 /tmp/said | tr -d '\0')"
_lkm_record end '' ''
