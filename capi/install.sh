#!/usr/bin/env bash
# Builds the C library, and installs it.
#
#   capi/install.sh PREFIX      the libraries, the headers, and files for pkg-config and CMake
#
# CUMEM_FEATURES='' installs a library without the NVIDIA driver, for simulated devices only. DESTDIR is put before PREFIX.
set -euo pipefail
cd "$(dirname "$0")"
case ${1:-} in '' | -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2 ;; esac

prefix=$1 root=${DESTDIR:-}$1
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' ../Cargo.toml)
built=$(cargo build --release --lib --no-default-features --features "${CUMEM_FEATURES-cuda}" --message-format=json |
    grep -o '"[^"]*/libcumem_c\.so"' | tail -n 1 | tr -d '"')

mkdir -p "$root"/{include,lib/pkgconfig,lib/cmake/cumem}
cp include/cumem.h include/cumem.hpp "$root/include/"
cp "$built" "$root/lib/libcumem.so.$version"
ln -sf "libcumem.so.$version" "$root/lib/libcumem.so.0"
ln -sf libcumem.so.0 "$root/lib/libcumem.so"

# The static library exports only the functions of the header: Rust's library and the stand-ins for the driver's
# functions stay inside, so that a program can link with libcuda too.
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
ld -r -o "$objects/all.o" --whole-archive "${built%.so}.a"
# The bitcode of Rust's library is of no use after `ld -r`, and other tools fail on it.
grep -oE '\bcumem_[a-z_]+\(' include/cumem.h | tr -d '(' >"$objects/functions"
objcopy --keep-global-symbols="$objects/functions" --remove-section=.llvmbc --remove-section=.llvmcmd --strip-debug \
    "$objects/all.o" "$objects/cumem.o"
rm -f "$root/lib/libcumem.a"
ar rcs "$root/lib/libcumem.a" "$objects/cumem.o"

cat >"$root/lib/pkgconfig/cumem.pc" <<END
prefix=$prefix
Name: cumem
Description: Composable memory resources for CUDA
Version: $version
Cflags: -I\${prefix}/include
Libs: -L\${prefix}/lib -lcumem
Libs.private: -lgcc_s -lpthread -ldl -lm -lc
END

cat >"$root/lib/cmake/cumem/cumem-config.cmake" <<'END'
# Targets: cumem::cumem (shared) and cumem::static.
get_filename_component(_cumem "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET cumem::cumem)
  add_library(cumem::cumem SHARED IMPORTED)
  set_target_properties(cumem::cumem PROPERTIES
    IMPORTED_LOCATION "${_cumem}/lib/libcumem.so"
    IMPORTED_SONAME libcumem.so.0
    INTERFACE_INCLUDE_DIRECTORIES "${_cumem}/include")
  add_library(cumem::static STATIC IMPORTED)
  set_target_properties(cumem::static PROPERTIES
    IMPORTED_LOCATION "${_cumem}/lib/libcumem.a"
    INTERFACE_INCLUDE_DIRECTORIES "${_cumem}/include"
    INTERFACE_LINK_LIBRARIES "gcc_s;pthread;dl;m")
endif()
END
cat >"$root/lib/cmake/cumem/cumem-config-version.cmake" <<END
set(PACKAGE_VERSION $version)
if(PACKAGE_FIND_VERSION VERSION_LESS_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
END
echo "cumem $version is in $root"
