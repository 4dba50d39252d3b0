/* Switching stacks on x86-64 (System V ABI); the contract is in os_switch.h.
 *
 * What a function must preserve for its caller goes to the stack: rbx, rbp, r12 to r15, and the control words of the two
 * floating-point units.  The frame, from the saved stack pointer upward:
 *
 *      0   mxcsr, x87 control word
 *      8   rbx, rbp, r12, r13, r14, r15
 *     56   return address
 *
 * Both stacks have the same frame while the pointer changes, so one description of it (CFI) serves before and after.
 *
 * It is left by a return: all stacks call it from the same place, so the processor, which expects the return address of the
 * stack that was left, is right.  This file says nothing of shadow stacks in a property note, so a program that links it runs without
 * them. */

        .text
        .p2align 4
        .globl  os_switch
        .hidden os_switch
        .type   os_switch, @function
os_switch:
        .cfi_startproc
        endbr64
        subq    $56, %rsp
        .cfi_def_cfa_offset 64
        movq    %rbx, 8(%rsp)
        .cfi_offset %rbx, -56
        movq    %rbp, 16(%rsp)
        .cfi_offset %rbp, -48
        movq    %r12, 24(%rsp)
        .cfi_offset %r12, -40
        movq    %r13, 32(%rsp)
        .cfi_offset %r13, -32
        movq    %r14, 40(%rsp)
        .cfi_offset %r14, -24
        movq    %r15, 48(%rsp)
        .cfi_offset %r15, -16
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        movl    (%rsp), %r8d            /* loads as wide as the stores: a wider one waits for the cache */
        movzwl  4(%rsp), %r9d
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp
        cmpl    %r8d, (%rsp)            /* to set the control words is slow, and they rarely differ */
        jne     .Lcontrol_differs
        cmpw    %r9w, 4(%rsp)
        jne     .Lcontrol_differs
.Lcontrol_done:
        movq    8(%rsp), %rbx
        movq    16(%rsp), %rbp
        movq    24(%rsp), %r12
        movq    32(%rsp), %r13
        movq    40(%rsp), %r14
        movq    48(%rsp), %r15
        movq    %rdx, %rax
        .cfi_remember_state
        addq    $56, %rsp
        .cfi_def_cfa_offset 8
        .cfi_restore %rbx
        .cfi_restore %rbp
        .cfi_restore %r12
        .cfi_restore %r13
        .cfi_restore %r14
        .cfi_restore %r15
        ret
        .cfi_restore_state
.Lcontrol_differs:
        ldmxcsr (%rsp)
        fldcw   4(%rsp)
        jmp     .Lcontrol_done
        .cfi_endproc
        .size   os_switch, . - os_switch

/* Where the first switch to a stack arrives: calls the function in rbx.  There is no caller: unwinders end here. */
        .p2align 4
        .globl  os_switch_first
        .hidden os_switch_first
        .type   os_switch_first, @function
os_switch_first:
        .cfi_startproc
        .cfi_undefined %rip
        endbr64
        movq    %rax, %rdi
        callq   *%rbx
        ud2
        .cfi_endproc
        .size   os_switch_first, . - os_switch_first

/* void os_switch_prepare(uintptr_t *saved, uintptr_t high, void (*function)(void *)) */
        .p2align 4
        .globl  os_switch_prepare
        .hidden os_switch_prepare
        .type   os_switch_prepare, @function
os_switch_prepare:
        .cfi_startproc
        endbr64
        andq    $-16, %rsi
        movq    $0, -8(%rsi)
        movq    $0, -16(%rsi)
        leaq    -80(%rsi), %rsi
        movq    $0, (%rsi)
        stmxcsr (%rsi)
        fnstcw  4(%rsi)
        movq    %rdx, 8(%rsi)
        movq    $0, 16(%rsi)
        movq    $0, 24(%rsi)
        movq    $0, 32(%rsi)
        movq    $0, 40(%rsi)
        movq    $0, 48(%rsi)
        leaq    os_switch_first(%rip), %rax
        movq    %rax, 56(%rsi)
        movq    %rsi, (%rdi)
        ret
        .cfi_endproc
        .size   os_switch_prepare, . - os_switch_prepare

        .section .note.GNU-stack, "", @progbits
