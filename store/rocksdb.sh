#!/usr/bin/env bash
# Builds the RocksDB static library once, outside the target folder, or finds the one built before.
#
# Cargo would compile RocksDB anew for each profile and each cleaned target folder (28 minutes on
# two cores with debug info). This script compiles the sources that the `librocksdb-sys` crate ships,
# with -O2, without -g and with a precompiled header, into
#   ${HOLDFAST_CACHE:-$HOME/.cache/holdfast}/rocksdb-<version>-<key of flags>/librocksdb.a
# and points the git-ignored link `.rocksdb` at it, where `.cargo/config.toml` tells cargo to look.
#
# usage: store/rocksdb.sh          build or find, then link
#        store/rocksdb.sh --where  print the folder only (it may not exist yet)
set -euo pipefail
cd "$(dirname "$0")/.."

lock=${HOLDFAST_LOCK:-Cargo.lock}
version_of() { awk -v crate="$1" '$0 == "name = \"" crate "\"" { getline; gsub(/version = |"/, ""); print; exit }' "$lock"; }
rocks_version=$(version_of librocksdb-sys)
lz4_version=$(version_of lz4-sys)
[ -n "$rocks_version" ] && [ -n "$lz4_version" ] || { echo "store/rocksdb.sh: no librocksdb-sys or lz4-sys in $lock" >&2; exit 1; }

CXX=${CXX:-g++}
flags=(-std=c++20 -O2 -fPIC -ffunction-sections -fdata-sections -w -include cstdint -DNDEBUG -DLZ4
  -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT
  -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT
  -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION)
case $(uname -m) in
  # Hardware CRC32C: every x86-64 machine since 2010 has it.
  x86_64) flags+=(-msse4.2 -mpclmul) ;;
  aarch64) flags+=(-march=armv8-a+crc+crypto) ;;
esac

compiler=$("$CXX" -dumpfullversion -dumpversion 2>/dev/null || echo none)
key=$(printf '%s\n' "${flags[@]}" "$lz4_version" "$CXX-$compiler" "$(uname -m)" | sha256sum | cut -c1-12)
home=${HOLDFAST_CACHE:-$HOME/.cache/holdfast}
dir=$home/rocksdb-${rocks_version#*+}-$key
[ "${1:-}" != --where ] || { echo "$dir"; exit 0; }

link() { ln -sfn "$dir" .rocksdb; }
if [ -f "$dir/librocksdb.a" ]; then link; exit 0; fi
[ "$compiler" != none ] || { echo "store/rocksdb.sh: no C++ compiler; run 'make setup' or: apt-get install g++" >&2; exit 1; }

# Two builds at once would only slow each other down: the second waits, then finds the first one's.
mkdir -p "$home"
exec 9>"$home/.building"
flock 9
if [ -f "$dir/librocksdb.a" ]; then link; exit 0; fi

source_of() { find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -maxdepth 2 -type d -name "$1" 2>/dev/null | head -1; }
[ -n "$(source_of "librocksdb-sys-$rocks_version")" ] || cargo fetch --locked
crate=$(source_of "librocksdb-sys-$rocks_version")
lz4=$(source_of "lz4-sys-$lz4_version")
[ -d "$crate" ] && [ -d "$lz4" ] || { echo "store/rocksdb.sh: crate sources not found; run 'cargo fetch'" >&2; exit 1; }

jobs=$(nproc)
echo "RocksDB ${rocks_version#*+}: compiling once into $dir" >&2
echo "(usually 12 to 16 minutes on two cores; every later build links the result)" >&2
work=$dir.partial
mkdir -p "$work/obj"
flags+=(-I"$crate/rocksdb/include" -I"$crate/rocksdb" -I"$crate" -I"$lz4/liblz4/lib" -I"$lz4/liblz4")

# The headers are two thirds of the compile time: parse the widest ones once.
cat >"$work/common.h" <<'H'
#include "db/db_impl/db_impl.h"
#include "db/version_set.h"
#include "table/block_based/block_based_table_reader.h"
H
"$CXX" "${flags[@]}" -x c++-header "$work/common.h" -o "$work/common.h.gch"

# One source: with the precompiled header, and without it where a file does not bear it.
# An object that is already there is of an interrupted run with the same key, and is kept.
cat >"$work/one.sh" <<S
#!/usr/bin/env bash
src=\$1
obj=$work/obj/\$(echo "\$src" | tr '/' '_').o
[ ! -f "\$obj" ] || exit 0
$CXX ${flags[*]} -include $work/common.h -c "$crate/\$src" -o "\$obj.tmp" 2>/dev/null ||
  $CXX ${flags[*]} -c "$crate/\$src" -o "\$obj.tmp" || exit 255
mv "\$obj.tmp" "\$obj"
S
{ grep -v '^util/build_version.cc$' "$crate/rocksdb_lib_sources.txt" | sed 's/[[:space:]]*$//; /^$/d; s|^|rocksdb/|'; echo build_version.cc; } >"$work/sources"
total=$(wc -l <"$work/sources")
start=$(date +%s)
progress() {
  done=$(find "$work/obj" -name '*.o' | wc -l)
  elapsed=$(($(date +%s) - start))
  printf 'RocksDB: %3d of %d files, %2d%%, %d:%02d elapsed' "$done" "$total" $((done * 100 / total)) $((elapsed / 60)) $((elapsed % 60)) >&2
  if [ -t 2 ]; then printf '\r' >&2; else printf '\n' >&2; fi
}
xargs -P "$jobs" -n 1 bash "$work/one.sh" <"$work/sources" &
compile=$!
beat=$([ -t 2 ] && echo 2 || echo 30)
while kill -0 "$compile" 2>/dev/null; do
  progress
  for _ in $(seq "$beat"); do kill -0 "$compile" 2>/dev/null || break; sleep 1; done
done
wait "$compile" || { echo "store/rocksdb.sh: a source file did not compile (see above); what is done is kept, run again to go on" >&2; exit 1; }
progress
[ ! -t 2 ] || echo >&2
find "$work/obj" -name '*.o' -print0 | sort -z | xargs -0 ar crs "$work/librocksdb.a"
mkdir -p "$dir"
mv "$work/librocksdb.a" "$dir/librocksdb.a"
rm -rf "$work"
link
echo "RocksDB: done in $((($(date +%s) - start) / 60)) minutes, $(du -h "$dir/librocksdb.a" | cut -f1)" >&2
