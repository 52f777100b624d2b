/* A kernel to be debugged: enters 64-bit mode and counts for ever. PVH entry (Xen, "x86/HVM direct
 * boot ABI"): 32-bit protected mode, flat segments, no paging. */

	.section .note.Xen, "a", @note
	.long 4, 4, 18
	.asciz "Xen"
	.long start

	.text
	.code32
	.globl start
start:
	mov $stack_top, %esp
	/* One page of 2 MiB at each 2 MiB, one to one. */
	mov $tables + 0x1003, %eax
	mov %eax, tables
	mov $tables + 0x2003, %eax
	mov %eax, tables + 0x1000
	movl $0x83, tables + 0x2000
	movl $0x200083, tables + 0x2008
	movl $0x400083, tables + 0x2010
	mov $tables, %eax
	mov %eax, %cr3
	mov $0x620, %eax
	mov %eax, %cr4
	mov $0xC0000080, %ecx
	rdmsr
	or $0x100, %eax
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	lgdt gdt_pointer
	ljmp $8, $long_mode

	.code64
	.globl long_mode
long_mode:
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $0x1122334455667788, %rbx
	movq %rbx, %xmm3
	fninit
	fldpi
forever:
	call work
	jmp forever

	.globl work
	.type work, @function
work:
	mov counter(%rip), %rax
	add step(%rip), %rax
	mov %rax, counter(%rip)
	ret
	.size work, . - work

	.data
	.balign 8
	.globl counter
	.type counter, @object
	.size counter, 8
counter: .quad 0
	.globl step
	.type step, @object
	.size step, 8
step:	.quad 1
gdt:	.quad 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF
gdt_pointer:
	.word . - gdt - 1
	.long gdt

	.bss
	.balign 4096
tables:	.skip 0x3000
	.skip 0x1000
stack_top:
	.section .note.GNU-stack, "", @progbits
