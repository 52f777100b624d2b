# Part of `fetch`: Debian packages into the cache, without root. Sets nothing up on the system.
# shellcheck shell=bash disable=SC2154

# The processor whose packages are meant; each has lists and files of its own.
architecture=amd64

# apt's folder for that processor.
apt_folder() {
  [ "$architecture" = amd64 ] && echo "$cache/apt" || echo "$cache/apt/$architecture"
}

# Does something with the packages of another processor.
for_architecture() { # ARCHITECTURE COMMAND...
  local architecture=$1
  "${@:2}"
}

# apt with lists and files of its own; sources as `find_sources` chose them.
apt() { # apt-get|apt-cache ARGS...
  local folder
  folder=$(apt_folder)
  local options=(
    -q -o "Dir::State::Lists=$folder/lists" -o "Dir::Cache=$folder/cache"
    -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture"
    -o "Dir::Etc::SourceList=$sources" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::Cache::pkgcache=pkgcache.bin -o Dir::Cache::srcpkgcache=srcpkgcache.bin
    -o Acquire::GzipIndexes=false -o Acquire::Languages=none -o Acquire::Retries=3 -o Acquire::http::Timeout=30
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    -o APT::Update::Post-Invoke-Success::= -o Debug::NoLocking=true
  )
  # As root apt would fetch as user _apt, which may not write into the cache.
  [ "$(id -u)" != 0 ] || options+=(-o APT::Sandbox::User=root)
  "$1" "${options[@]}" "${@:2}"
}

find_sources() {
  [ -z "$sources" ] || { [ -r "$sources" ] || die "$sources cannot be read"; return 0; }
  local id=
  [ ! -r /etc/os-release ] || id=$(. /etc/os-release && echo "${ID:-}")
  if [ "$id" = debian ]; then
    for sources in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
      [ ! -s "$sources" ] || return 0
    done
  fi
  local keys=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -r "$keys" ] || die "this is no Debian and has not its keys: install debian-archive-keyring, or name sources of a Debian by --sources"
  sources=$cache/apt/debian.list
  echo "deb [arch=amd64,i386 signed-by=$keys] http://deb.debian.org/debian bookworm main" >"$sources"
}

have_lists() { ls "$(apt_folder)"/lists/*_Packages* >/dev/null 2>&1; }

update_lists() {
  say "reading Debian's package lists ($architecture)"
  apt apt-get -o APT::Update::Error-Mode=any update && have_lists && return
  # One list of several: a mirror in the middle of its own update, most of the time.
  have_lists || die "Debian's package lists cannot be fetched: is there a network? (sources: $sources)"
  say "not all of Debian's package lists could be fetched: going on with those that are whole"
}

# The version apt would take of a package; nothing if there is none.
candidate() { # PACKAGE
  apt apt-cache policy "$1" | sed -n 's/^ *Candidate: \([^(]*\)$/\1/p'
}

# The package of a kernel that its metapackage stands for today.
kernel() { # METAPACKAGE
  apt apt-cache depends --important "$1" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -1
}

# A package and those it needs, without what the system has.
with_missing() { # PACKAGE...
  local name
  for name in $(apt apt-cache depends --recurse --important "$@" | grep '^[a-z0-9]' | sort -u); do
    case $name in *:*) continue ;; esac # of another architecture
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || echo "$name"
  done
}

# Where a package lies unpacked.
package() { echo "$cache/packages/$1"; }

# Downloads and unpacks a package as `packages/AS`, unless this version is there.
unpack() { # PACKAGE AS
  local version folder=$cache/packages/$2 new=$cache/packages/$2.new
  version=$(candidate "$1")
  [ -n "$version" ] || die "no package $1 for $architecture in $sources"
  echo "$1 $version" >>"$cache/versions.new"
  [ "$(cat "$folder/.package" 2>/dev/null)" != "$1 $version" ] || return 0
  say "fetching $1 $version"
  rm -rf "$new" && mkdir -p "$new/.deb" || return 1
  (cd "$new/.deb" && apt apt-get download "$1=$version" >"$cache/apt/log" 2>&1) || {
    cat "$cache/apt/log" >&2
    return 1
  }
  dpkg -x "$new"/.deb/*.deb "$new" || return 1
  rm -r "$new/.deb"
  echo "$1 $version" >"$new/.package"
  rm -rf "$folder"
  mv -T "$new" "$folder"
}

# The programs that make disks: those of the system, else of packages.
tools() {
  local wanted=(grub-common)
  command -v xorriso >/dev/null || wanted+=(xorriso)
  command -v mke2fs >/dev/null || wanted+=(e2fsprogs)
  local name
  for name in $(with_missing "${wanted[@]}"); do
    [ -z "$(candidate "$name")" ] || unpack "$name" "tools/$name" || return 1
  done
}

fetch_all() {
  local cloud full
  cloud=$(kernel linux-image-cloud-amd64)
  full=$(kernel linux-image-amd64)
  [ -n "$cloud" ] && [ -n "$full" ] || die "no kernel packages in $sources"
  : >"$cache/versions.new"
  unpack "$cloud" linux-image-cloud &&
    unpack "$full" linux-image-full &&
    unpack busybox-static busybox-static &&
    unpack seabios seabios &&
    unpack qemu-system-data qemu-system-data &&
    unpack grub-rescue-pc grub-rescue-pc &&
    unpack grub-pc-bin grub-pc-bin &&
    tools &&
    for_architecture i386 fetch_i386 || return 1
  mv "$cache/versions.new" "$cache/versions"
}

# The kernels without and with PAE, and what programs beside them are made of: the system's compiler
# makes 32-bit code, but the C library is that of i386.
fetch_i386() {
  local plain pae name
  plain=$(kernel linux-image-686)
  pae=$(kernel linux-image-686-pae)
  [ -n "$plain" ] && [ -n "$pae" ] || die "no i386 kernel packages in $sources"
  unpack "$plain" linux-image-686 &&
    unpack "$pae" linux-image-686-pae &&
    unpack busybox-static busybox-static-i386 || return 1
  for name in libc6-dev linux-libc-dev "$(libgcc)"; do
    unpack "$name" "libc-i386/${name%%-[0-9]*}" || return 1
  done
}

# The package of the compiler's own library, of the release that these sources are.
libgcc() {
  apt apt-cache depends --important gcc | sed -n 's/^ *Depends: gcc-\([0-9]*\)$/libgcc-\1-dev/p' | head -1
}

packages() {
  local name
  for name in apt-get apt-cache dpkg dpkg-query; do
    command -v "$name" >/dev/null ||
      die "$name is missing: the guests are made of Debian packages, which need apt and dpkg (any Debian or Ubuntu)"
  done
  PATH=$PATH:/usr/sbin:/sbin
  mkdir -p "$cache"/apt/{,i386/}{lists,cache/archives}/partial "$cache"/packages/{tools,libc-i386}
  find_sources
  fresh=
  for_architecture amd64 need_lists
  for_architecture i386 need_lists
  fetch_all && return
  # Old lists name versions that the archive has dropped.
  [ -z "$fresh" ] && for_architecture amd64 update_lists && for_architecture i386 update_lists && fetch_all ||
    die "packages are missing; what has been fetched stays"
}

# Reads the lists if there are none or old ones; says so in `fresh`.
need_lists() {
  if [ -n "$force" ] || ! have_lists ||
    [ -n "$(find "$(apt_folder)/lists" -maxdepth 0 -mtime +1)" ]; then
    update_lists
    fresh=1
  fi
}

# Runs a program of the system or of the packages.
tool() { # PROGRAM ARGS...
  local at libraries
  if command -v "$1" >/dev/null; then
    "$@"
    return
  fi
  at=$(find "$cache/packages/tools" -path "*bin/$1" | head -1)
  [ -n "$at" ] || die "$1 is missing"
  libraries=$(printf '%s:' "$cache"/packages/tools/*/{usr/,}lib/x86_64-linux-gnu)
  LD_LIBRARY_PATH=$libraries "$at" "${@:2}"
}
