# Ring 3 of long mode: long-syscall, long-ring3, long-ist.

.code64
# Runs ring 3 code at RDI until it executes SYSCALL; RAX comes back, RCX is where.
syscall_setup:
    movl $0xc0000081, %ecx          # STAR: kernel 10/18, user 20/28/30
    xorl %eax, %eax
    movl $((0x23 << 16) | KCODE64), %edx
    wrmsr
    wrmsr64 0xc0000082, (user_return - R)
    wrmsr64 0xc0000084, 0x700       # SFMASK: DF, IF, TF
    ret
run_user:
    movq %rsp, V_RESUME_SP
    pushq $UDATA
    pushq $USER_STACK
    pushq $2
    pushq $UCODE64
    pushq %rdi
    iretq
user_return:
    movq V_RESUME_SP, %rsp
    ret
# To ring 3 at 2; its exception goes on at 1 in ring 0.
.macro faults64
    try64 1f
    pushq $UDATA
    pushq $USER_STACK
    pushq $2
    pushq $UCODE64
    pushq $(2f - R)
    iretq
.endm

part_long_syscall:
    call syscall_setup
    wrmsr64 0xc0000082, (syscall_target - R)
    movb $0xee, IDT64 + 3 * 16 + 5  # INT3 from ring 3
    try64 1f
    pushq $UDATA
    pushq $USER_STACK
    pushq $0xcd7                    # DF and arithmetic flags
    pushq $UCODE64
    pushq $(syscall_caller - R)
    iretq
1:  trapped64 3, 0, "back from ring 3 by INT3"
    movq V_A, %rax
    check64 $(syscall_next - R), "SYSCALL leaves RIP in RCX"
    movq V_B, %rax
    check64 $0xcd7, "SYSCALL leaves RFLAGS in R11"
    movl V_C, %eax
    andl $0x700, %eax
    check64 $0, "SYSCALL clears the flags in SFMASK"
    movq V_D, %rax
    check64 $(KCODE64 | KDATA << 16), "SYSCALL loads CS and SS"
    movq %r12, %rax
    check64 $USER_STACK, "SYSCALL and SYSRET leave RSP"
    movq %r13, %rax
    check64 $0xcd7, "SYSRET takes RFLAGS from R11"
    movl %r14d, %eax
    check64 $(UCODE64 | UDATA << 16), "SYSRET loads CS and SS"
    # SYSRET to 32-bit code, and SYSCALL from there by CSTAR where the vendor has it: INT3 here.
    try64 1f
    movl $(syscall_compat - R), %ecx
    movl $2, %r11d
    movl $USER_STACK, %esp
    sysretl
1:  trapped64 3, 0, "back from 32-bit ring 3"
    movl V_CS, %eax
    check64 $UCODE32, "SYSRET to 32-bit code"
    movl %ebx, %eax
    check64 $0x101, "INC by 40h in 32-bit ring 3"
    # SCE clear.
    movl $0xc0000080, %ecx
    rdmsr
    andb $0xfe, %al
    wrmsr
    try64 1f
    syscall
1:  trapped64 6, 0, "#UD: SYSCALL with EFER.SCE clear"
    ret
syscall_caller:
    movl $UDATA, %eax
    pushq $0xcd7
    popfq
    syscall
syscall_next:
    pushfq
    popq %r13
    cld
    movq %rsp, %r12
    movl %ss, %r14d
    shll $16, %r14d
    movl %cs, %eax
    orl %eax, %r14d
    int3
syscall_target:
    movq %rsp, %rbx
    movl $RING0_STACK, %esp
    movq %rcx, V_A
    movq %r11, V_B
    pushfq
    popq %rax
    movq %rax, V_C
    movl %ss, %edx
    shll $16, %edx
    movl %cs, %eax
    orl %edx, %eax
    movq %rax, V_D
    movq %rbx, %rsp
    sysretq
.code32
syscall_compat:
    movl $0x100, %eax
    .byte 0x40                      # inc %eax
    movl %eax, %ebx
    int3

.code64
.set CHECKSUM, 0x338a26f2
.set MIX, 0x5368cb8
part_long_ring3:
    call syscall_setup
    movb $0xee, IDT64 + 3 * 16 + 5  # INT3 from ring 3
    movl $(user_registers - R), %edi
    call run_user
    check64 $UCODE64, "CS in ring 3"
    movq %rcx, %rax
    check64 $(user_registers_end - R), "SYSCALL leaves RIP in RCX"
    # The heavy loops: native speed on any KVM.
    movl $(user_sieve - R), %edi
    call run_user
    check64 $78498, "primes below 1000000"
    movl $(user_checksum - R), %edi
    call run_user
    check64 $CHECKSUM, "FNV-1a of the sieve"
    movl $(user_mix - R), %edi
    call run_user
    check64 $MIX, "shifts, rotates, multiplications and divisions of 64 bits"
    # What ring 3 may not do.
    faults64
2:  int3
1:  trapped64 3, 0, "INT3 in ring 3"
    movl V_CS, %eax
    check64 $UCODE64, "the frame's CS"
    movq V_SP, %rax
    check64 $USER_STACK, "the frame's RSP"
    faults64
2:  movq %cr3, %rax
1:  trapped64 13, 0, "#GP: MOV from CR3 in ring 3"
    faults64
2:  hlt
1:  trapped64 13, 0, "#GP: HLT in ring 3"
    faults64
2:  inb $0x21, %al
1:  trapped64 13, 0, "#GP: IN in ring 3"
    faults64
2:  wrmsr
1:  trapped64 13, 0, "#GP: WRMSR in ring 3"
    faults64
2:  ud2
1:  trapped64 6, 0, "UD2 in ring 3"
    faults64
2:  xorl %ecx, %ecx
    divl %ecx
1:  trapped64 0, 0, "DIV by 0 in ring 3"
    faults64
2:  movl 0x30000000, %eax
1:  trapped64 14, 4, "#PF: ring 3 reads a page not present"
    faults64
2:  movl %eax, 0x30000008
1:  trapped64 14, 6, "#PF: ring 3 writes a page not present"
    movq V_CR2, %rax
    check64 $0x30000008, "CR2 of the fault before"
    call small_pages
    movq $0x20003, PT1
    movq $0x20005, PT1 + 8
    faults64
2:  movl 0x40000000, %eax
1:  trapped64 14, 5, "#PF: ring 3 reads a page of ring 0"
    faults64
2:  movl %eax, 0x40001000
1:  trapped64 14, 7, "#PF: ring 3 writes a read-only page"
    ret

user_registers:
    movl %cs, %eax
    syscall
user_registers_end:
# One byte a number at 200000: 1 for a composite.
user_sieve:
    movl $0x200000, %ebx
    movq %rbx, %rdi
    movl $125000, %ecx
    xorl %eax, %eax
    rep stosq
    movl $2, %esi
1:  cmpb $0, (%rbx, %rsi)
    jne 3f
    movl %esi, %edi
    imull %esi, %edi
2:  movb $1, (%rbx, %rdi)
    addl %esi, %edi
    cmpl $1000000, %edi
    jb 2b
3:  incl %esi
    cmpl $1000, %esi
    jb 1b
    movl $2, %esi
    xorl %eax, %eax
4:  cmpb $1, (%rbx, %rsi)
    adcl $0, %eax
    incl %esi
    cmpl $1000000, %esi
    jb 4b
    syscall
user_checksum:
    movl $0x200000, %ebx
    movl $0x811c9dc5, %eax
    xorl %esi, %esi
1:  movzbl (%rbx, %rsi), %ecx
    xorl %ecx, %eax
    imull $0x01000193, %eax, %eax
    incl %esi
    cmpl $1000000, %esi
    jb 1b
    shrl $1, %eax                   # so that it fits a check's positive immediate
    syscall
user_mix:
    movl $1, %eax
    movl $100000, %esi
    movabsq $0x9e3779b97f4a7c15, %rdi
1:  addq %rdi, %rax
    rolq $13, %rax
    mulq %rdi
    xorq %rdx, %rax
    movl %esi, %ecx
    shrq %cl, %rax
    bswapq %rax
    xorl %edx, %edx
    divq %rdi
    leaq (%rdx, %rax, 4), %rax
    decl %esi
    jnz 1b
    shrq $33, %rax
    syscall

part_long_ist:
    # IST: the stack is switched though the ring stays.
    movb $1, IDT64 + 6 * 16 + 4
    movl $(ist_hook - R), V_HOOK
    movq %rsp, %rbx
    ud2
    movq V_SP, %rax
    subq %rbx, %rax
    check64 $0, "the frame holds the old RSP"
    movq V_A, %rax
    check64 $(IST1_TOP - 6 * 8 - 24), "the handler's stack is IST 1"
    movb $2, IDT64 + 6 * 16 + 4
    ud2
    movq V_A, %rax
    check64 $(IST2_TOP - 6 * 8 - 24), "the handler's stack is IST 2"
    # Without IST the frame goes to the old stack, aligned to 16.
    movb $0, IDT64 + 6 * 16 + 4
    movq %rsp, %rbx
    movl $(STACK - 0x105), %esp
    ud2
    movq %rbx, %rsp
    movq V_A, %rax
    check64 $(STACK - 0x110 - 6 * 8 - 24), "the frame is aligned to 16 bytes"
    movq V_SP, %rax
    check64 $(STACK - 0x105), "the frame holds the odd RSP"
    movl V_COUNT, %eax
    check64 $3, "three exceptions"
    movq $0, V_HOOK
    # Bases beyond 4 GiB by MSR; SWAPGS.
    movl $0xc0000101, %ecx
    movl $0x20000, %eax
    xorl %edx, %edx
    wrmsr
    movl $0xc0000102, %ecx
    movl $0x21000, %eax
    wrmsr
    movl $0xc0000100, %ecx
    movl $0x22000, %eax
    wrmsr
    movl $0x111, 0x20008
    movl $0x222, 0x21008
    movl $0x333, 0x22008
    movl %gs:8, %eax
    check64 $0x111, "GS.base"
    swapgs
    movl %gs:8, %eax
    check64 $0x222, "SWAPGS"
    movl $0xc0000102, %ecx
    rdmsr
    check64 $0x20000, "SWAPGS puts the old base into KernelGSbase"
    movl %fs:8, %eax
    check64 $0x333, "FS.base"
    movl $8, %esi
    movq %fs:(%rsi), %rax
    movl %eax, %eax
    check64 $0x333, "FS.base with a register"
    leaq %fs:8(%rsi), %rax
    check64 $16, "LEA takes no base"
    # DS and ES have none, and a selector loaded into FS replaces it.
    movl $KDATA16, %eax
    movl %eax, %fs
    movl $0xc0000100, %ecx
    rdmsr
    check64 $0, "a selector loaded into FS sets its base"
    ret
ist_hook:
    movq %rsp, V_A
    addq $2, 40 - 8(%rsp)           # over the UD2
    ret
