# Part of `fetch`: GRUB with the cloud kernel on a CD-ROM and on a disk.
# shellcheck shell=bash disable=SC2154

# Built in, so that no module folder is needed beside the configuration.
grub_modules=(biosdisk part_msdos iso9660 ext2 normal linux multiboot serial terminal configfile echo ls cat test halt reboot)

grub_image() { # FORMAT PREFIX OUTPUT
  local folder
  folder=$(package grub-pc-bin)/usr/lib/grub/i386-pc
  tool grub-mkimage -d "$folder" -O "$1" -p "$2" -o "$3" "${grub_modules[@]}"
}

# What both media hold.
boot_files() { # TO
  rm -rf "$1"
  mkdir -p "$1/boot/grub"
  cp "$here/grub.cfg" "$1/boot/grub/grub.cfg"
  cp "$cache/vmlinuz-cloud" "$1/boot/vmlinuz"
  cp "$cache/initrd.cloud.gz" "$1/boot/initrd.gz"
}

build_grub_iso() {
  boot_files "$new.root"
  grub_image i386-pc-eltorito /boot/grub "$new.root/boot/grub/eltorito.img"
  tool xorriso -report_about SORRY -as mkisofs -quiet -R -V TWIN86 -o "$new" \
    -b boot/grub/eltorito.img -no-emul-boot -boot-load-size 4 -boot-info-table "$new.root" 2>/dev/null ||
    die "xorriso cannot make grub.iso"
  rm -r "$new.root"
}

# A little-endian number of four bytes.
le32() {
  local n=$1
  # shellcheck disable=SC2059
  printf "$(printf '\\%03o' $((n & 255)) $((n >> 8 & 255)) $((n >> 16 & 255)) $((n >> 24 & 255)))"
}

put() { # FILE OFFSET
  dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# GRUB's boot sector looks for the rest in the sectors behind it, and those for theirs in the next, as
# long as nobody writes other numbers into them: so installing is two copies.
build_grub_disk() {
  local mib=64 first=2048 sectors
  sectors=$((mib * 2048 - first))
  boot_files "$new.root"
  truncate -s "${mib}M" "$new"
  tool mke2fs -q -t ext2 -d "$new.root" -E "offset=$((first * 512))" "$new" $((sectors / 2))k 2>/dev/null ||
    die "mke2fs cannot make the partition of grub-disk.img"
  rm -r "$new.root"
  grub_image i386-pc '(hd0,msdos1)/boot/grub' "$new.core"
  [ "$(stat -c %s "$new.core")" -lt $(((first - 1) * 512)) ] || die "GRUB is too large for the gap behind the MBR"
  head -c 440 "$(package grub-pc-bin)/usr/lib/grub/i386-pc/boot.img" | put "$new" 0
  dd if="$new.core" of="$new" bs=512 seek=1 conv=notrunc status=none
  rm "$new.core"
  { printf '\200\376\377\377\203\376\377\377'; le32 $first; le32 $sectors; } | put "$new" 446
  printf '\125\252' | put "$new" 510
}
