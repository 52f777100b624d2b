# Part of `fetch`: the test program and the initramfs of each kernel.
# shellcheck shell=bash disable=SC2154

# What a test needs beyond the kernel image: IDE disk and CD-ROM, and what stands on them.
modules=(crc32c_generic ata_piix sd_mod sr_mod isofs ext4 nls_cp437 nls_ascii vfat)

find_compiler() {
  command -v cc || command -v gcc || die "guest-check needs a C compiler (packages gcc, libc6-dev)"
}

build_guest_check() {
  local cc
  cc=$(find_compiler)
  "$cc" -static -O2 -Wall -o "$new" "$here/guest-check.c"
}

# The same for i386, with Debian's i386 library: the system need not have one.
build_guest_check_i386() {
  local cc libc libgcc
  cc=$(find_compiler)
  libc=$(package libc-i386/libc6-dev)
  libgcc=$(find "$(package libc-i386/libgcc)" -name libgcc.a | head -1)
  libgcc=${libgcc%/*}
  # SSE stays where the program asks for it; doubles are SSE's as in the 64-bit one.
  "$cc" -m32 -march=pentium4 -mfpmath=sse -O2 -Wall -fno-pie -c -o "$new.o" \
    -isystem "$libc/usr/include" -isystem "$libc/usr/include/i386-linux-gnu" \
    -isystem "$(package libc-i386/linux-libc)/usr/include" \
    -isystem "$(package libc-i386/linux-libc)/usr/include/i386-linux-gnu" "$here/guest-check.c"
  "$cc" -m32 -static -no-pie -nostdlib -o "$new" "$libc"/usr/lib/i386-linux-gnu/crt{1,i}.o "$libgcc/crtbeginT.o" \
    "$new.o" -Wl,--start-group "$libc/usr/lib/i386-linux-gnu/libc.a" "$libgcc"/libgcc{,_eh}.a -Wl,--end-group \
    "$libgcc/crtend.o" "$libc/usr/lib/i386-linux-gnu/crtn.o"
  rm "$new.o"
}

# The file of a module; nothing if it is part of the kernel. Names have - or _, which mean the same.
module_file() { # FOLDER NAME
  find "$1" -name "${2//[-_]/[-_]}.ko*" | head -1
}

# The bytes of a module, unpacked.
module_bytes() { # FILE
  case $1 in
    *.xz) xz -dc "$1" ;;
    *.zst) zstd -dcq "$1" ;;
    *) cat "$1" ;;
  esac
}

# Copies a module and first those it depends on, numbered in the order to load them.
add_module() { # FOLDER NAME TO
  local file depends name
  name=${2//-/_}
  ls "$3" | grep -q "^[0-9]*-$name.ko$" && return
  file=$(module_file "$1" "$name")
  [ -n "$file" ] || return 0
  depends=$(module_bytes "$file" | tr '\0' '\n' | sed -n 's/^depends=//p' | tr ',' ' ')
  for name in $depends; do
    add_module "$1" "$name" "$3"
  done
  module_bytes "$file" >"$3/$(printf '%02d' "$(ls "$3" | wc -l)")-${2//-/_}.ko"
}

# The program in an unpacked package.
busybox_of() { # PACKAGE
  local name
  for name in "$(package "$1")"/{,usr/}bin/busybox; do
    [ ! -x "$name" ] || { echo "$name"; return; }
  done
  die "$1 has no busybox"
}

build_initramfs() { # KERNEL-PACKAGE [ARCHITECTURE-SUFFIX]
  local root=$new.root busybox name cpio
  busybox=$(busybox_of "busybox-static${2-}")
  cpio=$(busybox_of busybox-static)
  rm -rf "$root"
  mkdir -p "$root"/{bin,dev,proc,sys,mnt,root,tmp,modules}
  cp "$busybox" "$root/bin/busybox"
  cp "$here/init" "$root/init"
  cp "$cache/guest-check${2-}" "$root/bin/guest-check"
  chmod 755 "$root"/{init,bin/*}
  for name in "${modules[@]}"; do
    add_module "$(package "$1")" "$name" "$root/modules"
  done
  (cd "$root" && find . | LC_ALL=C sort | "$cpio" cpio -o -H newc -R 0:0 2>/dev/null) | gzip -9n >"$new"
  rm -r "$root"
}

# The same for a kernel that runs machines itself: KVM for AMD processors instead of disks.
build_initramfs_kvm() {
  local modules=(kvm-amd)
  build_initramfs linux-image-cloud
}
