# Code that changes itself: long-smc.

.set CODE, 0x30000

.code64
part_long_smc:
    # movl $imm, %eax; ret
    movb $0xb8, CODE
    movl $0x11111111, CODE + 1
    movb $0xc3, CODE + 5
    movl $CODE, %ebx
    call *%rbx
    check64 $0x11111111, "code in RAM"
    movl $0x22222222, CODE + 1
    call *%rbx
    check64 $0x22222222, "the immediate changed"
    # Changed and run a hundred times.
    xorl %edi, %edi
    movl $100, %ecx
1:  movl %ecx, CODE + 1
    call *%rbx
    addl %eax, %edi
    decl %ecx
    jnz 1b
    movl %edi, %eax
    check64 $5050, "changed before each of a hundred calls"
    # A byte of the next instruction, written by the one before it.
    #   movb %cl, 1(%rip); movb $0, %al; ret
    movl $0x00010d88, CODE + 0x100
    movl $0xb0000000, CODE + 0x104  # movb %cl, 1(%rip) has 6 bytes; then b0 00
    movl $0x0001c300, CODE + 0x107
    movl $0x0d88, CODE + 0x100      # 88 0D disp32
    movl $1, CODE + 0x102
    movl $0x00c300b0, CODE + 0x106  # b0 00 c3
    movb $0x5a, %cl
    xorl %eax, %eax
    movl $(CODE + 0x100), %ebx
    call *%rbx
    check64 $0x5a, "the next instruction changed"
    movb $0x6b, %cl
    xorl %eax, %eax
    call *%rbx
    check64 $0x6b, "the next instruction changed again"
    # An instruction across two pages, each half changed.
    movw $0x12b8, CODE + 0xffe      # b8 12 | 34 56 78 c3
    movl $0xc3785634, CODE + 0x1000
    movl $(CODE + 0xffe), %ebx
    call *%rbx
    check64 $0x78563412, "an instruction across two pages"
    movb $0x79, CODE + 0x1002
    call *%rbx
    check64 $0x79563412, "its second page changed"
    movb $0x13, CODE + 0xfff
    call *%rbx
    check64 $0x79563413, "its first page changed"
    # Through another linear address of the same page.
    call small_pages
    movq $(CODE | 3), PT1
    movl $CODE, %ebx
    movl $0x33333333, CODE + 1
    call *%rbx
    movl $0x44444444, 0x40000001
    call *%rbx
    check64 $0x44444444, "changed through an alias"
    # The same linear address, another page.
    movl $0x40000000, %ebp
    call *%rbp
    movl $0x000055b8, CODE + 0x2000
    movl $0xc300, CODE + 0x2004
    movq $(CODE + 0x2003), PT1
    invlpg (%rbp)
    call *%rbp
    check64 $0x55, "another page at the same address"
    # By a string instruction, and by one that writes its own bytes twice over.
    movl $CODE + 0x2000, %esi
    movl $CODE, %edi
    movl $8, %ecx
    rep movsb
    call *%rbx
    check64 $0x55, "changed by REP MOVSB"
    # A loop that rewrites its own body: add $n, %eax with n counted up.
    #   1: addl $0, %eax; incb -2(%rip); decl %ecx; jnz 1b; ret
    movl $0x0500c083, CODE + 0x200  # 83 c0 00 | fe 05 disp32
    movb $0xfe, CODE + 0x203
    movb $0x05, CODE + 0x204
    movl $-7, CODE + 0x205
    movl $0xf375c9ff, CODE + 0x209  # ff c9 | 75 f3
    movb $0xc3, CODE + 0x20d
    movl $100, %ecx
    xorl %eax, %eax
    movl $CODE + 0x200, %ebx
    call *%rbx
    check64 $4950, "a loop that rewrites itself"
    ret
