# What the parts have written as text, then the reset vector in the image's last 16 bytes.
.subsection 2
.org 0xfff0
.code16
    ljmpw $0xf000, $(start - guest_rom)
    .ascii "twin86"
.org 0x10000, 0xff
.popsection
.code64
