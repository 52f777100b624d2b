# What protected mode checks at each access: prot-limit.

.code32
# QEMU's TCG has none of the checks in this part: the first one fails there.
part_prot_limit:
    descriptor 0x90, 0x20000, 0xfff, 0x92, 0x4
    descriptor 0x98, 0x20000, 0xfff, 0x96, 0x4  # expand-down: 1000 and up
    descriptor 0xa0, 0x20000, 0xfff, 0x90, 0x4
    descriptor 0xa8, 0xf0000, 0xffff, 0x98, 0x4 # execute-only
    movl $0x90, %eax
    movl %eax, %gs
    movl $0x98, %eax
    movl %eax, %fs
    movl %gs:0xffc, %eax
    movl %fs:0x1000, %eax
    try32 1f
    movl %gs:0xffd, %eax
1:  trapped32 13, 0, "#GP: a read over the limit"
    try32 1f
    movb %al, %gs:0x1000
1:  trapped32 13, 0, "#GP: a write beyond the limit"
    try32 1f
    movl %gs:0xfffffffe, %eax
1:  trapped32 13, 0, "#GP: a read at the top of 4 GiB"
    try32 1f
    movb %fs:0xfff, %al
1:  trapped32 13, 0, "#GP: an expand-down segment below its limit"
    movl $0xa0, %eax
    movl %eax, %gs
    try32 1f
    movl %eax, %gs:0
1:  trapped32 13, 0, "#GP: a write to read-only data"
    try32 1f
    movl %eax, %cs:V_A
1:  trapped32 13, 0, "#GP: a write through CS"
    xorl %eax, %eax
    movl %eax, %gs
    try32 1f
    movl %gs:0x1000, %eax
1:  trapped32 13, 0, "#GP: a read through null"
    # Stack segment: #SS.
    descriptor 0xb0, 0, 0x7bff, 0x92, 0x4
    movl %esp, %ecx
    try32 1f
    movl $0xb0, %eax
    movl %eax, %ss
    movl %ss:0x7c00, %eax
1:  movl $KDATA, %eax
    movl %eax, %ss
    movl %ecx, %esp
    trapped32 12, 0, "#SS: a read beyond the stack segment"
    # Code: EIP beyond the limit, and execute-only code read.
    try32 1f
    ljmpl $0xa8, $0x10000
1:  trapped32 13, 0, "#GP: far JMP beyond the limit"
    try32 1f
    ljmpl $0xa8, $(2f - guest_rom)
2:  movl %cs:0, %eax
1:  trapped32 13, 0, "#GP: a read of execute-only code"
    # The GDT's own limit counts its last byte.
    movw $(0x20 + 6), V_A
    movl $GDT, V_A + 2
    lgdtl V_A
    movl $0x20, %eax
    try32 1f
    movl %eax, %gs
1:  lgdtl gdt_pointer - R
    trapped32 13, 0x20, "#GP: a descriptor half within the GDT"
    # Control registers and MSRs (QEMU takes these values).
    movl $0x80000000, %eax
    try32 1f
    movl %eax, %cr0
1:  trapped32 13, 0, "#GP: CR0.PG without PE"
    movl $0xffffffff, %eax
    try32 1f
    movl %eax, %cr4
1:  trapped32 13, 0, "#GP: reserved bits of CR4"
    movl $0xdeadbeef, %ecx
    try32 1f
    rdmsr
1:  trapped32 13, 0, "#GP: RDMSR of no register"
    try32 1f
    .byte 0xf0, 0x89, 0x05          # lock mov %eax, V_A
    .long V_A
1:  trapped32 6, 0, "#UD: LOCK MOV"
    ret
