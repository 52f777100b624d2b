# Long mode in ring 0: long, long-paging, long-strict.

.set PD1, 0x14000                   # 40000000-7FFFFFFF
.set PT1, 0x15000                   # 40000000-401FFFFF

.code64
.macro wrmsr64 msr, value
    movl $\msr, %ecx
    movl $\value, %eax
    xorl %edx, %edx
    wrmsr
.endm
part_long:
    movl %cs, %eax
    check64 $KCODE64, "CS"
    movl $0xc0000080, %ecx
    rdmsr
    andl $0xfff, %eax
    check64 $0xd01, "EFER: LMA, LME, NXE, SCE"
    # Registers, and what a 32-bit result does to the upper half.
    movabsq $0x1122334455667788, %r15
    movq %r15, %rax
    addl $1, %eax
    check64 $0x55667789, "a 32-bit result clears the upper half"
    movq %r15, %rax
    xorb %al, %al
    subq %r15, %rax
    check64 $-0x88, "an 8-bit result keeps the rest"
    movq %r15, %r8
    bswapq %r8
    movq %r8, %rax
    shrq $33, %rax
    check64 $0x443bb32a, "BSWAP of 64 bits"
    movabsq $0x123456789abcdef0, %rax
    movabsq $0x0fedcba987654321, %r9
    mulq %r9
    shrq $32, %rdx
    movq %rdx, %rax
    check64 $0x0121fa00, "MUL of 64 bits"
    movq $-100, %rax
    cqto
    movl $7, %r10d
    idivq %r10
    imulq $1000, %rax, %rax
    addq %rdx, %rax
    check64 $-14002, "IDIV of 64 bits"
    movl $0x80000000, %eax
    cltq
    check64 $-0x80000000, "CDQE"
    movslq V_TEXT(%rip), %rcx       # encodings: MOVSXD, RIP-relative
    leaq long_table(%rip), %rsi
    lodsq
    check64 $0x12345678, "RIP-relative data in the ROM"
    movabsq $0x3333333333333333, %rcx
    movq %rcx, V_A
    movb $65, %cl
    movl $1, %eax
    shlq %cl, %rax
    check64 $2, "a 64-bit shift counts modulo 64"
    movb $0x5a, %sil                # REX: SIL, not DH
    movzbl %sil, %eax
    check64 $0x5a, "SIL"
    .byte 0x48, 0x90                # xchg %rax, %rax
    movl $5, %eax
    movl $9, %r8d
    .byte 0x49, 0x90                # xchg %r8, %rax, no NOP
    check64 $9, "REX.B makes 90h an XCHG"
    movl $8, %eax
    movq %rax, %cr8
    xorl %eax, %eax
    movq %cr8, %rax
    check64 $8, "CR8"
    xorl %eax, %eax
    movq %rax, %cr8
    movq %rsp, %rbx
    pushq $-1
    subq %rsp, %rbx
    popq %rax
    check64 $-1, "PUSH sign-extends to 64 bits"
    movq %rbx, %rax
    check64 $8, "PUSH of 8 bytes"
    movq $0x20000, %rdi
    movl $512, %ecx
    movabsq $0x0101010101010101, %rax
    rep stosq
    movq %rdi, %rax
    check64 $0x21000, "REP STOSQ"
    movl $0x20000, %esi
    movl $0x21000, %edi
    movl $512, %ecx
    movq $0x77, 0x20f00
    rep movsq
    movl $0x20000, %esi
    movl $0x21000, %edi
    movl $512, %ecx
    repe cmpsq
    movl %ecx, %eax
    check64 $0, "REP MOVSQ and CMPSQ"
    lock xaddq %rbx, 0x20f00
    movq 0x20f00, %rax
    check64 $0x7f, "LOCK XADD"
    movl $0x7f, %eax
    movl $0x99, %ecx
    lock cmpxchgq %rcx, 0x20f00
    movq 0x20f00, %rax
    check64 $0x99, "LOCK CMPXCHG"
    # Canonical addresses.
    movabsq $0x0000800000000000, %rbx
    try64 1f
    movq (%rbx), %rax
1:  trapped64 13, 0, "#GP: a read of a non-canonical address"
    try64 1f
    movabsq $0x1234567812345678, %rcx
    call *%rcx
1:  trapped64 13, 0, "#GP: a call to a non-canonical address"
    # Gone in 64-bit mode.
    try64 1f
    .byte 0x06                      # push %es
1:  trapped64 6, 0, "#UD: PUSH ES"
    try64 1f
    .byte 0xea, 0, 0, 0, 0, 8, 0    # ljmp
1:  trapped64 6, 0, "#UD: direct far JMP"
    # Compatibility mode: 32-bit code under the same page tables.
    pushq $KCODE32
    pushq $(long_compat - R)
    lretq
.code32
long_compat:
    movl $0x10, %eax
    .byte 0x40                      # inc %eax; in 64-bit mode a REX prefix
    movl $0x20000, %ebx
    movl $0x600dc0de, (%ebx)
    movl -0x10000(%ebx, %ebx), %ecx # 30000
    movl $0xffffffff, %edx
    movl 0x20001(%edx), %esi        # wraps at 4 GiB
    pushl $0x1234
    popl %edi
    movl %esp, %ebp
    ljmpl $KCODE64, $(long_back - R)
.code64
long_back:
    movl %eax, %eax
    check64 $0x11, "INC by 40h in compatibility mode"
    movl %esi, %eax
    check64 $0x600dc0de, "an address wraps at 4 GiB"
    movl %edi, %eax
    check64 $0x1234, "PUSH in compatibility mode"
    leal 8(%rbp), %eax
    check64 $STACK, "ESP in compatibility mode"
    # A 16-bit code segment under long mode.
    pushq $KCODE16
    pushq $(long_compat16 - guest_rom)
    lretq
.code16
long_compat16:
    movl $0x11110000, %eax
    decw %ax
    movw $0x4321, %bx
    ljmpl $KCODE64, $(1f - R)
.code64
1:  check64 $0x1111ffff, "16-bit code in compatibility mode"
    ret
.p2align 3
long_table:
    .quad 0x12345678

# Zeroes PD1 and PT1 and hangs them in: 40000000-401FFFFF in small pages.
small_pages:
    movl $PD1, %edi
    movl $0x400, %ecx
    xorl %eax, %eax
    rep stosq
    movq $(PD1 | 7), 0x11000 + 8
    movq $(PT1 | 7), PD1
    movq %cr3, %rax
    movq %rax, %cr3
    ret
.macro entry64 at, expected, text
    movl \at, %eax
    andl $0xfff, %eax
    check64 $\expected, "\text"
.endm
.macro fault64 error, address, text
    trapped64 14, \error, "\text"
    movq V_CR2, %rax
    check64 $\address, "CR2 of the fault before"
.endm
part_long_paging:
    call small_pages
    movl $0x4afe0020, 0x20000
    movl $0x4afe0021, 0x21000
    movl $0x0000c3c3, 0x30000       # ret
    movq $0x20003, PT1              # 40000000 writable
    movq $0x21001, PT1 + 8          # 40001000 read-only
    movq $0x30003, PT1 + 24         # 40003000 NX
    orb $0x80, PT1 + 31
    movq $0x30003, PT1 + 32         # 40004000 code
    movq $0x20007, PT1 + 40         # 40005000 ring 3
    movq $0x00600083, PD1 + 8       # 40200000: 2 MiB
    movl 0x40000000, %eax
    check64 $0x4afe0020, "a 4 KiB page"
    entry64 PT1, 0x023, "a read sets A"
    entry64 PD1, 0x027, "a walk sets A on its way"
    movl $0x4afe1020, 0x40000000
    entry64 PT1, 0x063, "a write sets D"
    movl 0x20000, %eax
    check64 $0x4afe1020, "where the write went"
    movl $0x12340000, 0x40212340
    movl 0x612340, %eax
    check64 $0x12340000, "a 2 MiB page"
    entry64 PD1 + 8, 0x0e3, "a write sets A and D in a 2 MiB entry"
    try64 1f
    movl 0x40002010, %eax
1:  fault64 0, 0x40002010, "#PF: a read of a page not present"
    try64 1f
    movl %eax, 0x40002020
1:  fault64 2, 0x40002020, "#PF: a write to a page not present"
    try64 1f
    movl 0x7ffffff0, %eax
1:  fault64 0, 0x7ffffff0, "#PF: a table not present"
    movl %eax, 0x40001008           # WP is clear
    movq %cr0, %rax
    orl $0x10000, %eax
    movq %rax, %cr0
    try64 1f
    movl %eax, 0x40001010
1:  fault64 3, 0x40001010, "#PF: a write to a read-only page"
    entry64 PT1 + 8, 0x061, "what the write with WP clear has set"
    movl $0x40004000, %ecx
    call *%rcx
    movl $0x40003000, %ecx
    movl (%rcx), %eax
    check64 $0xc3c3, "a page with NX may be read"
    try64 1f
    call *%rcx
1:  fault64 0x11, 0x40003000, "#PF: a fetch from a page with NX"
    # NX holds at every level.
    orb $0x80, PD1 + 7
    movl $0x40004000, %ecx
    invlpg (%rcx)
    try64 1f
    call *%rcx
1:  fault64 0x11, 0x40004000, "#PF: NX in the directory"
    andb $0x7f, PD1 + 7
    # A write across two pages, the second not present.
    movq $0x21003, PT1 + 8
    invlpg 0x40001000
    movl $0x55555555, 0x21ffc
    try64 1f
    movq %rbx, 0x40001ffc
1:  fault64 2, 0x40002000, "#PF: a write across pages, the second not present"
    # A string instruction stops at the page and can go on.
    movl $0x40001ff0, %edi
    movl $32, %ecx
    movb $0x66, %al
    try64 1f
    rep stosb
1:  movq %rdi, %rbx
    movl %ecx, %edx
    fault64 2, 0x40002000, "#PF: REP STOSB into a page not present"
    movq %rbx, %rax
    check64 $0x40002000, "RDI at the fault of REP STOSB"
    movl %edx, %eax
    check64 $16, "RCX at the fault of REP STOSB"
    # INVLPG, MOV to CR3, and global pages.
    movq $0x20103, PT1 + 16
    movq %cr4, %rax
    orl $0x80, %eax                 # PGE
    movq %rax, %cr4
    movl 0x40002000, %eax
    check64 $0x4afe1020, "a page made present needs no INVLPG"
    movq $0x21103, PT1 + 16
    invlpg 0x40002000
    movl 0x40002000, %eax
    check64 $0x4afe0021, "INVLPG drops a global page"
    movq $0x20103, PT1 + 16
    movq %cr4, %rax
    andb $0x7f, %al
    movq %rax, %cr4
    movl 0x40002000, %eax
    check64 $0x4afe1020, "clearing CR4.PGE drops global pages"
    # High halves: PML4 entry 1FF, the same tables again.
    movq $0x11007, 0x10000 + 511 * 8
    movabsq $0xffffff8000020000, %rbx
    movl (%rbx), %eax
    check64 $0x4afe1020, "an address of the upper half"
    movabsq $0xffffff8000000000, %rbx
    movq $0x11007, 0x10000 + 2 * 8
    movabsq $0x10000020000, %rbx
    movl (%rbx), %eax
    check64 $0x4afe1020, "an address of 1 TiB"
    movq $0, 0x10000 + 2 * 8
    movq $0, 0x10000 + 511 * 8
    # Accesses of ring 0 to ring 3's pages and SMEP, SMAP are off here: they work.
    movl 0x40005000, %eax
    check64 $0x4afe1020, "ring 0 reads ring 3's page"
    ret

# What QEMU's TCG (7.2) does otherwise than the SDM: the first of these it fails ends the part.
part_long_strict:
    call small_pages
    # A read-modify-write asks for a writable page at once.
    try64 1f
    incl 0x40002000
1:  fault64 2, 0x40002000, "#PF: INC of a page not present is a write"
    # Bit 51 is reserved on a machine with fewer physical address bits; the page is present.
    movq $0x20003, PT1 + 8
    movb $8, PT1 + 14
    try64 1f
    movl 0x40001000, %eax
1:  fault64 9, 0x40001000, "#PF: a reserved bit in a page's entry"
    # A write that faults on its second page writes nothing to the first.
    movq $0x21003, PT1 + 8
    invlpg 0x40001000
    movl $0x55555555, 0x21ffc
    try64 1f
    movq %rsp, 0x40001ffc
1:  fault64 2, 0x40002000, "#PF: a write across pages, the second not present"
    movl 0x21ffc, %eax
    check64 $0x55555555, "what lies on the first page"
    movabsq $0x0000800000000000, %rbx
    try64 1f
    movq -4(%rbx), %rax             # begins below, ends beyond
1:  trapped64 13, 0, "#GP: a read that runs out of the canonical half"
    movq %rbx, %rbp
    try64 1f
    movq (%rbp), %rax
1:  trapped64 12, 0, "#SS: a read of a non-canonical address by RBP"
    movb $1, IDT64 + 12 * 16 + 4    # #SS itself needs a stack
    try64 1f
    leaq 0x100(%rbx), %rsp
    pushq %rax
1:  trapped64 12, 0, "#SS: a push to a non-canonical stack"
    # A gate's error code is 8 * vector + 2, though gates have 16 bytes.
    try64 1f
    int $0x50
1:  trapped64 13, 0x282, "#GP: a vector beyond the IDT"
    movl $0xc0000100, %ecx          # FS.base
    movl $0x8000, %edx
    xorl %eax, %eax
    try64 1f
    wrmsr
1:  trapped64 13, 0, "#GP: WRMSR of a non-canonical base"
    # SYSCALL clears what SFMASK names and nothing else.
    call syscall_setup
    wrmsr64 0xc0000082, (1f - R)
    pushq $0xcd7
    popfq
    syscall
1:  pushfq
    popq %rax
    cld
    check64 $0x8d7, "RFLAGS after SYSCALL"
    try64 1f
    .byte 0xf1
1:  trapped64 1, 0, "INT1"
    # General detect: an access to a debug register is the fault.
    movl $0x2400, %eax
    movq %rax, %dr7
    try64 1f
    movq %dr0, %rax
1:  trapped64 1, 0, "#DB: general detect"
    movq %dr7, %rax
    andl $0x2000, %eax
    check64 $0, "the handler runs with DR7.GD clear"
    # MOV SS keeps the single-step trap off the instruction after it.
    movl $KDATA, %ebx
    try64 2f
    pushfq
    orl $0x100, (%rsp)
    popfq
    movl %ebx, %ss
    nop
strict_stepped:
    nop
2:  trapped64 1, 0, "single-step over MOV SS"
    movq V_RIP, %rax
    check64 $(strict_stepped - R), "MOV SS and the instruction after it make one step"
    try64 1f
    movl $0x50, %eax
    movq %rax, %cr4                 # PAE may not go
1:  trapped64 13, 0, "#GP: CR4.PAE cleared in long mode"
    ret
