/* Contexts: what surrounds os_switch. */
#include <stddef.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "base/check.h"
#include "os/os_switch.h"

#if defined(__SANITIZE_ADDRESS__)
#define ADDRESS_SANITIZER 1
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ADDRESS_SANITIZER 1
#endif
#endif

/* In assembly. */
void *os_switch(uintptr_t *saved, uintptr_t stack_pointer, void *argument);
void os_switch_prepare(uintptr_t *saved, uintptr_t high, void (*function)(void *arrival));

/* What the side that is left passes to the side that goes on; lies on the stack that is left. */
struct arrival {
  struct os_context *from;
  void *argument;
};

/* ---- C++ ----
 *
 * The language's runtime keeps a list of the exceptions being handled for each thread; it belongs to the stack whose
 * handlers they are in.  Programs without C++ have no such function. */

struct exception_state {
  void *handled;
  unsigned uncaught_count;
};

struct exception_state *__cxa_get_globals(void) __attribute__((weak));

static inline void swap_exceptions(struct os_context *from, const struct os_context *to) {
  if (LIKELY(__cxa_get_globals == NULL)) return;
  struct exception_state *state = __cxa_get_globals();
  from->exceptions[0] = state->handled;
  from->exceptions[1] = (void *)(uintptr_t)state->uncaught_count;
  state->handled = to->exceptions[0];
  state->uncaught_count = (unsigned)(uintptr_t)to->exceptions[1];
}

/* ---- sanitizers ---- */

#if defined(ADDRESS_SANITIZER)

void __sanitizer_start_switch_fiber(void **fake_stack, const void *bottom, size_t bytes);
void __sanitizer_finish_switch_fiber(void *fake_stack, const void **bottom_before, size_t *bytes_before);
void __asan_unpoison_memory_region(const volatile void *start, size_t bytes);

static void note_leaving(struct os_context *from, const struct os_context *to, bool ends) {
  __sanitizer_start_switch_fiber(ends ? NULL : &from->fake_stack, (void *)to->stack.start,
                                 to->stack.end - to->stack.start);
}

/* The bounds of a thread's own stack are learned when it is left. */
static void note_arrival(void *fake_stack, struct os_context *from) {
  const void *bottom;
  size_t bytes;
  __sanitizer_finish_switch_fiber(fake_stack, &bottom, &bytes);
  if (from->stack.start == from->stack.end)
    from->stack = (struct os_range){(uintptr_t)bottom, (uintptr_t)bottom + bytes};
}

static void note_unwound(struct os_context *own) {
  void *fake_stack;
  const void *bottom;
  size_t bytes;
  __sanitizer_start_switch_fiber(&fake_stack, (void *)own->stack.start, own->stack.end - own->stack.start);
  __sanitizer_finish_switch_fiber(own->fake_stack, &bottom, &bytes);
  os_forget_stack(own->stack); /* marks that the frames left which are gone */
}

void os_forget_stack(struct os_range stack) {
  __asan_unpoison_memory_region((void *)stack.start, stack.end - stack.start);
}

#else

static inline void note_leaving(struct os_context *from, const struct os_context *to, bool ends) {
  (void)from, (void)to, (void)ends;
}
static inline void note_arrival(void *fake_stack, struct os_context *from) { (void)fake_stack, (void)from; }
static inline void note_unwound(struct os_context *own) { (void)own; }
void os_forget_stack(struct os_range stack) { (void)stack; }

#endif

#if THREAD_SANITIZER

void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);

static void create_thread_state(struct os_context *context) { context->thread_state = __tsan_create_fiber(0); }
void os_destroy_thread_state(void *thread_state) {
  if (thread_state != NULL) __tsan_destroy_fiber(thread_state);
}
static inline void switch_thread_state(struct os_context *from, struct os_context *to) {
  from->thread_state = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to->thread_state, 0);
}
static void return_thread_state(struct os_context *own) { __tsan_switch_to_fiber(own->thread_state, 0); }

#else

static void create_thread_state(struct os_context *context) { (void)context; }
void os_destroy_thread_state(void *thread_state) { (void)thread_state; }
static inline void switch_thread_state(struct os_context *from, struct os_context *to) { (void)from, (void)to; }
static void return_thread_state(struct os_context *own) { (void)own; }

#endif

/* ---- contexts ---- */

void os_context_init(struct os_context *context, struct os_range stack, void (*function)(void *arrival)) {
  *context = (struct os_context){.stack = stack};
  os_switch_prepare(&context->stack_pointer, stack.end, function);
  create_thread_state(context);
}

uintptr_t os_context_stopped_at(const struct os_context *context) {
  return atomic_load_relaxed(&context->stack_pointer);
}

void *os_context_switch(struct os_context *from, struct os_context *to, void *argument, bool ends) {
  struct arrival departure = {.from = from, .argument = argument};
  uintptr_t stack_pointer = to->stack_pointer;
  atomic_store_relaxed(&to->stack_pointer, (uintptr_t)0);
  swap_exceptions(from, to);
  note_leaving(from, to, ends);
  switch_thread_state(from, to);
  struct arrival *arrival = os_switch(&from->stack_pointer, stack_pointer, &departure);
  note_arrival(from->fake_stack, arrival->from);
  return arrival->argument;
}

void os_context_unwound(struct os_context *own) {
  note_unwound(own);
  return_thread_state(own);
}

void *os_context_arrive(void *opaque) {
  struct arrival *arrival = opaque;
  note_arrival(NULL, arrival->from);
  return arrival->argument;
}
