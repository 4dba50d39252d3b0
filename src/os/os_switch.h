/* Switching stacks.
 *
 * os_switch (one file of assembly per processor) stores on the running stack what a function must preserve for its
 * caller, stores the stack pointer, takes the other stack's, and returns there: everything that the code of a stack that
 * does not run may still use lies between its saved pointer and its high end.
 *
 * A context is a stack that can be switched to, with what the tools and the language runtimes keep for each stack: where
 * the address sanitizer has its fake stack, the thread sanitizer's fiber, and C++'s account of exceptions in flight. */
#ifndef MIDDEN_OS_OS_SWITCH_H
#define MIDDEN_OS_OS_SWITCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/os.h"

struct os_context {
  uintptr_t stack_pointer; /* while it does not run; 0 while it does; atomic, of the stores of os_switch too */
  struct os_range stack;   /* empty for a thread's own stack where that is not known */
  void *exceptions[2];     /* C++: exceptions being handled and their number, while it does not run */
  void *fake_stack;        /* address sanitizer */
  void *thread_state;      /* thread sanitizer */
};

/* Makes a context of an unused stack: the first switch to it calls `function`, which must hand its argument to
 * os_context_arrive before all else, and must not return. */
void os_context_init(struct os_context *context, struct os_range stack, void (*function)(void *arrival));

/* Its stack pointer, which may change at any time unless the caller keeps it from running; 0 while it runs. */
uintptr_t os_context_stopped_at(const struct os_context *context);

/* Frees a context's thread_state, when it is switched to no more and its stack not in use.  May take locks. */
void os_destroy_thread_state(void *thread_state);

/* Leaves `from`, which runs, for `to`.  Returns when something switches back, with what that passed as `argument`.
 * `ends`: nothing ever will. */
void *os_context_switch(struct os_context *from, struct os_context *to, void *argument, bool ends);

/* The first words of a new context's function: the argument that was passed. */
void *os_context_arrive(void *arrival);

/* The calling thread is back on its own stack without a switch: it was unwound when the thread was asked to end. */
void os_context_unwound(struct os_context *own);

/* Memory that was a stack becomes an ordinary range again, as far as tools are concerned. */
void os_forget_stack(struct os_range stack);

#endif
