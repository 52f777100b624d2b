# Part of `fetch`: the test program and the initramfs of each kernel.
# shellcheck shell=bash disable=SC2154

# What a test needs beyond the kernel image: IDE disk and CD-ROM, and what stands on them.
modules=(crc32c_generic ata_piix sd_mod sr_mod isofs ext4 nls_cp437 nls_ascii vfat)

build_guest_check() {
  local cc
  cc=$(command -v cc || command -v gcc) || die "guest-check needs a C compiler (packages gcc, libc6-dev)"
  "$cc" -static -O2 -Wall -o "$new" "$here/guest-check.c"
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

build_initramfs() { # KERNEL-PACKAGE
  local root=$new.root busybox name
  busybox=$(package busybox-static)/bin/busybox
  [ -x "$busybox" ] || busybox=$(package busybox-static)/usr/bin/busybox
  [ -x "$busybox" ] || die "busybox-static has no busybox"
  rm -rf "$root"
  mkdir -p "$root"/{bin,dev,proc,sys,mnt,root,tmp,modules}
  cp "$busybox" "$root/bin/busybox"
  cp "$here/init" "$root/init"
  cp "$cache/guest-check" "$root/bin/guest-check"
  chmod 755 "$root"/{init,bin/*}
  for name in "${modules[@]}"; do
    add_module "$(package "$1")" "$name" "$root/modules"
  done
  (cd "$root" && find . | LC_ALL=C sort | "$busybox" cpio -o -H newc -R 0:0 2>/dev/null) | gzip -9n >"$new"
  rm -r "$root"
}
