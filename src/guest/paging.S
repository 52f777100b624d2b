# 32-bit and PAE paging: paging32, pae.

.set PD32, 0x16000
.set PT32, 0x17000
.set PDPT_PAE, 0x18000
.set PD_PAE, 0x19000
.set PT_PAE, 0x1d000

.code32
# Zeroes the tables' pages 16000-1DFFF.
paging_clear:
    movl $PD32, %edi
    movl $0x2000, %ecx
    xorl %eax, %eax
    rep stosl
    ret
paging_on:
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    jmp 1f
1:  ret

# The low 12 bits of a table entry, once the access is done.
.macro entry32 at, expected, text
    movl \at, %eax
    andl $0xfff, %eax
    check32 $\expected, "\text"
.endm
.macro fault32 error, address, text
    trapped32 14, \error, "\text"
    movl V_CR2, %eax
    check32 $\address, "CR2 of the fault before"
.endm

# To ring 3 at `label`, by the ROM's pages for ring 3.
.macro user_page label
    movl $UDATA, %eax               # IRET would make ring 0's DS null
    movl %eax, %ds
    pushl $UDATA
    pushl $0x803800
    pushl $2
    pushl $UCODE32
    pushl $(\label - R + 0x800000)
    iretl
.endm
part_paging32:
    call paging_clear
    movl $0xcafe0020, 0x20000
    movl $0xcafe0021, 0x21000
    movl $0x00000083, PD32          # 4 MiB, one to one; ring 0
    movl $0x00000083, PD32 + 4      # 400000: the same page again
    movl $(PT32 | 7), PD32 + 8      # 800000: small pages
    movl $0x20003, PT32             # 800000 ring 0, writable
    movl $0x21001, PT32 + 4         # 801000 ring 0, read-only
    movl $0x20007, PT32 + 12        # 803000 ring 3, writable
    movl $0x21005, PT32 + 16        # 804000 ring 3, read-only
    movl $0x10, %eax                # CR4.PSE
    movl %eax, %cr4
    movl $PD32, %eax
    call paging_on
    # Translation, A and D.
    movl 0x420000, %eax
    check32 $0xcafe0020, "a 4 MiB page"
    entry32 PD32 + 4, 0x0a3, "a read sets A in a 4 MiB entry"
    movl %eax, 0x430000
    entry32 PD32 + 4, 0x0e3, "a write sets D in a 4 MiB entry"
    movl 0x800000, %eax
    check32 $0xcafe0020, "a 4 KiB page"
    entry32 PT32, 0x023, "a read sets A"
    entry32 PD32 + 8, 0x027, "a walk sets A in the directory"
    movl $0xcafe0022, 0x800004
    entry32 PT32, 0x063, "a write sets D"
    movl 0x20004, %eax
    check32 $0xcafe0022, "where the write went"
    # An access across two pages: one byte at 800FFF, three in 801000.
    movb $0x77, 0x20fff
    movl 0x800fff, %eax
    check32 $0xfe002177, "a read across two pages"
    # WP.
    movl $0xcafe1021, 0x801000
    movl 0x21000, %eax
    check32 $0xcafe1021, "ring 0 writes a read-only page, CR0.WP clear"
    movl %cr0, %eax
    orl $0x10000, %eax
    movl %eax, %cr0
    try32 1f
    movl %eax, 0x801008
1:  fault32 3, 0x801008, "#PF: a write to a read-only page, CR0.WP set"
    try32 1f
    movl 0x802004, %eax
1:  fault32 0, 0x802004, "#PF: a read of a page not present"
    try32 1f
    movl %eax, 0x802010
1:  fault32 2, 0x802010, "#PF: a write to a page not present"
    try32 1f
    movl 0x900000 - 0x2, %eax       # the table ends at BFFFFF, the page 8FF000 is not present
1:  fault32 0, 0x8ffffe, "#PF: a read across pages, the first not present"
    movl $0x20007, PT32 + 0x3fc
    try32 1f
    movl %eax, 0x8ffffe
1:  fault32 2, 0x900000, "#PF: a write across pages, the second not present"
    movl 0x20ffc, %eax
    shrl $24, %eax
    check32 $0x77, "a write that faults on its second page writes nothing"
    # Ring 3. The ROM and the stack are ring 0's here, so it runs at 8F0000.
    movl $(PT32 + 0x3c0), %edi      # 8F0000: the ROM, 16 pages
    movl $0xf0005, %eax
3:  stosl
    addl $0x1000, %eax
    cmpl $0x100005, %eax
    jne 3b
    try32 1f
    user_page 2f
2:  movl 0x803000, %eax
    movl 0x800000, %ecx
1:  fault32 5, 0x800000, "#PF: ring 3 reads a page of ring 0"
    try32 1f
    user_page 2f
2:  movl %eax, 0x804000
1:  fault32 7, 0x804000, "#PF: ring 3 writes a read-only page"
    try32 1f
    user_page 2f
2:  movl $0x20000, %eax
    jmp *%eax
1:  fault32 5, 0x20000, "#PF: ring 3 runs a page of ring 0"
    # INVLPG.
    movl $0x20003, PT32 + 8
    movl 0x802000, %eax
    movl $0x21003, PT32 + 8
    invlpg 0x802000
    movl 0x802000, %eax
    check32 $0xcafe1021, "INVLPG makes the changed entry seen"
    ret

part_pae:
    call paging_clear
    movl $0xcafe0020, 0x20000
    movl $0x0000c3c3, 0x21000       # ret; ret
    movl $(PD_PAE | 1), PDPT_PAE
    movl $(PD_PAE + 0x1000) | 1, PDPT_PAE + 8
    movl $0x00000083, PD_PAE        # 2 MiB one to one
    movl $0x00200083, PD_PAE + 8
    movl $(PT_PAE | 7), PD_PAE + 0x1000 # 40000000: small pages
    movl $0x20003, PT_PAE
    movl $0x21003, PT_PAE + 8
    movl $0x21001, PT_PAE + 16
    movl $0x80000000, PT_PAE + 20   # 40002000: NX
    movl $0x20, %eax
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    movl $0x800, %eax               # EFER.NXE
    xorl %edx, %edx
    wrmsr
    movl $PDPT_PAE, %eax
    call paging_on
    movl 0x40000000, %eax
    check32 $0xcafe0020, "a 4 KiB page by PAE"
    entry32 PT_PAE, 0x023, "a read sets A"
    movl $0xcafe0023, 0x40000008
    entry32 PT_PAE, 0x063, "a write sets D"
    movl %eax, 0x200000
    entry32 PD_PAE + 8, 0x0e3, "a write sets A and D in a 2 MiB entry"
    try32 1f
    movl 0x80000000, %eax
1:  fault32 0, 0x80000000, "#PF: no directory in the PDPT"
    try32 1f
    movl 0x40200004, %eax
1:  fault32 0, 0x40200004, "#PF: no table in the directory"
    movl $0x40001000, %eax
    call *%eax                      # runs, and comes back
    movl $0x40002000, %ecx
    movl (%ecx), %eax
    check32 $0x0000c3c3, "a page with NX may be read"
    try32 1f
    call *%ecx
1:  fault32 0x11, 0x40002000, "#PF: a fetch from a page with NX"
    movl %cr0, %eax
    orl $0x10000, %eax
    movl %eax, %cr0
    try32 1f
    movl %eax, 0x40002000
1:  fault32 3, 0x40002000, "#PF: a write to a read-only page"
    # The four PDPT entries are loaded with CR3, not at each walk.
    movl $(PD_PAE + 0x1000) | 1, PDPT_PAE + 16
    movl %cr3, %eax
    movl %eax, %cr3
    movl 0x80000000, %eax
    check32 $0xcafe0020, "a new PDPT entry after MOV to CR3"
    ret
