# The report: COM1 and what is written to it. 16-bit code, called from the home loop only.

.set COM1, 0x3f8

.code16
# 115200 8N1, FIFOs on and empty, DTR and RTS on, no interrupts.
console_init:
    movw $(uart_setup - guest_rom), %si
1:  movw %cs:(%si), %dx
    testw %dx, %dx
    jz 2f
    movb %cs:2(%si), %al
    outb %al, %dx
    addw $3, %si
    jmp 1b
2:  ret
.macro uart_write offset, value
    .short COM1 + \offset
    .byte \value
.endm
uart_setup:
    uart_write 1, 0                 # IER
    uart_write 3, 0x80              # LCR: DLAB
    uart_write 0, 1                 # divisor 1
    uart_write 1, 0
    uart_write 3, 0x03              # LCR: 8N1
    uart_write 2, 0x07              # FCR: on, both cleared, trigger 1
    uart_write 4, 0x03              # MCR: DTR, RTS
    .short 0

# AL to COM1.
print_char:
    pushw %dx
    pushw %ax
    movw $COM1 + 5, %dx
1:  inb %dx, %al
    testb $0x20, %al                # THRE
    jz 1b
    popw %ax
    movw $COM1, %dx
    outb %al, %dx
    popw %dx
    ret

# Until the last character has left.
console_drain:
    movw $COM1 + 5, %dx
1:  inb %dx, %al
    testb $0x40, %al                # TEMT
    jz 1b
    ret

# The string at CS:SI.
print:
    lodsb %cs:(%si), %al
    testb %al, %al
    jz 1f
    call print_char
    jmp print
1:  ret

# The string at CS:SI and dots up to column 22.
print_name:
    movw $22, %cx
1:  lodsb %cs:(%si), %al
    testb %al, %al
    jz 2f
    call print_char
    decw %cx
    jmp 1b
2:  movb $' ', %al
3:  call print_char
    movb $'.', %al
    decw %cx
    cmpw $1, %cx
    ja 3b
    movb $' ', %al
    jmp print_char

# What the part left for the reader, at DETAIL.
print_details:
    movw $DETAIL, %si
1:  cmpw V_DETAIL, %si
    jae 2f
    lodsb
    call print_char
    jmp 1b
2:  ret

# EAX in decimal.
print_decimal:
    xorw %cx, %cx
    movl $10, %ebx
1:  xorl %edx, %edx
    divl %ebx
    pushw %dx
    incw %cx
    testl %eax, %eax
    jnz 1b
2:  popw %ax
    addb $'0', %al
    call print_char
    loop 2b
    ret

# The 64-bit value at DS:DI in hexadecimal: 8 digits, or 16 where it has them.
print_hex64:
    movl 4(%di), %eax
    testl %eax, %eax
    jz 1f
    call print_hex32
1:  movl (%di), %eax
print_hex32:
    movw $8, %cx
    jmp print_digits
print_hex8:
    shll $24, %eax
    movw $2, %cx
print_digits:
    roll $4, %eax
    pushl %eax
    andb $15, %al
    cmpb $10, %al
    jb 1f
    addb $('a' - '0' - 10), %al
1:  addb $'0', %al
    call print_char
    popl %eax
    loop print_digits
    ret

print_failure:
    movw $(text_failed - guest_rom), %si
    call print
    cmpl $1, V_RESULT
    jne 1f
    movw V_TEXT, %si
    call print
    movw $(text_expected - guest_rom), %si
    call print
    movw $V_EXPECTED, %di
    call print_hex64
    movw $(text_actual - guest_rom), %si
    call print
    movw $V_ACTUAL, %di
    jmp 2f
1:  movw $(text_exception - guest_rom), %si
    call print
    movb V_VECTOR, %al
    call print_hex8
    movw $(text_error - guest_rom), %si
    call print
    movl V_ERROR, %eax
    call print_hex32
    movw $(text_cr2 - guest_rom), %si
    call print
    movw $V_CR2, %di
    call print_hex64
    movw $(text_at - guest_rom), %si
    call print
    movl V_CS, %eax
    call print_hex32
    movb $':', %al
    call print_char
    movw $V_RIP, %di
2:  call print_hex64
    movw $(text_check - guest_rom), %si
    call print
    movl V_CHECKS, %eax
    call print_decimal
    movw $(text_end - guest_rom), %si
    jmp print

.subsection 1
text_failed:    .asciz "FAILED: "
text_expected:  .asciz ": expected "
text_actual:    .asciz ", actual "
text_exception: .asciz "unexpected exception "
text_error:     .asciz ", error "
text_cr2:       .asciz ", cr2 "
text_at:        .asciz ", at "
text_check:     .asciz " (check "
text_end:       .asciz ")\r\n"
.subsection 0
