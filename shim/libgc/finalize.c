/* Finalizers.
 *
 * libgc's four registrations are midden's four orders.  When a collection makes finalizers ready, midden tells the
 * thread that collected; unless the program runs them on demand they run right there, in the middle of whatever called
 * the allocator, so a thread does not start a second round inside a finalizer.
 *
 * But an exception or longjmp may have left a round that still counts as under way, and nothing tells.  A notification
 * from the same stack, no deeper than the round began, shows it: the round is forgotten.  One from further down or from
 * another stack shows nothing: what left the round may have called on, a finalizer may have switched to a coroutine, a
 * round may have been left together with its stack.  There goes libgc's rule: with n rounds under way, one in 2^n
 * notifications starts another.  So rounds that were left delay others but never prevent them, and rounds inside each
 * other get ever rarer: the second takes two collections inside finalizers, the eighth 128. */
#include <errno.h>
#include <string.h>

#include "shim.h"

#include "gc/gc_disclaim.h"
#include "gc/javaxfc.h"

/* ---- registration ---- */

enum { FINALIZE_BYTES = 64 }; /* what a registration is said to ask for where there is no memory */

/* Where there is no memory for it the program's function is asked, which may find some, and what was there before is not told. */
static void finalize_set(void *object, GC_finalization_proc function, void *argument, enum midden_finalizer_order order,
                         GC_finalization_proc *old_function, void **old_argument) {
  GC_finalization_proc function_before = NULL;
  void *argument_before = NULL;
  int result = midden_finalizer_set(object, function, argument, order, &function_before, &argument_before);
  if (result == -ENOMEM && report_out_of_memory(FINALIZE_BYTES))
    result = midden_finalizer_set(object, function, argument, order, &function_before, &argument_before);
  if (result == -ENOMEM) return;
  if (result < 0) function_before = NULL, argument_before = NULL;
  if (old_function) *old_function = function_before;
  if (old_argument) *old_argument = argument_before;
}

void GC_register_finalizer(void *object, GC_finalization_proc function, void *argument,
                           GC_finalization_proc *old_function, void **old_argument) {
  finalize_set(object, function, argument, MIDDEN_FINALIZE_ORDERED, old_function, old_argument);
}

void GC_register_finalizer_ignore_self(void *object, GC_finalization_proc function, void *argument,
                                       GC_finalization_proc *old_function, void **old_argument) {
  finalize_set(object, function, argument, MIDDEN_FINALIZE_IGNORE_SELF, old_function, old_argument);
}

void GC_register_finalizer_no_order(void *object, GC_finalization_proc function, void *argument,
                                    GC_finalization_proc *old_function, void **old_argument) {
  finalize_set(object, function, argument, MIDDEN_FINALIZE_UNORDERED, old_function, old_argument);
}

void GC_register_finalizer_unreachable(void *object, GC_finalization_proc function, void *argument,
                                       GC_finalization_proc *old_function, void **old_argument) {
  finalize_set(object, function, argument, MIDDEN_FINALIZE_UNREACHABLE, old_function, old_argument);
}

/* ---- rounds ---- */

/* Where a round began, or a notification came from. */
struct finalize_round {
  const char *stack_base;
  const char *frame;
};

enum { FINALIZE_ROUNDS_MAX = 8 };

/* The thread's rounds that may be under way, and how many notifications were skipped since the last one began. */
static SHIM_THREAD_LOCAL struct finalize_round finalize_rounds[FINALIZE_ROUNDS_MAX];
static SHIM_THREAD_LOCAL unsigned finalize_rounds_count;
static SHIM_THREAD_LOCAL unsigned finalize_skipped;

static struct finalize_round finalize_round_at(const void *frame) {
  return (struct finalize_round){.stack_base = midden_thread_stack_base(), .frame = frame};
}

/* Forgets the rounds that began at `now` or further down on its stack: they are over. */
static void finalize_forget(struct finalize_round now) {
  unsigned kept = 0;
  for (unsigned i = 0; i < finalize_rounds_count; i++) {
    struct finalize_round round = finalize_rounds[i];
    if (round.stack_base != now.stack_base || round.frame > now.frame) finalize_rounds[kept++] = round;
  }
  finalize_rounds_count = kept;
}

/* The oldest makes room: most likely it was left with its stack. */
static void finalize_remember(struct finalize_round round) {
  finalize_forget(round);
  if (finalize_rounds_count == FINALIZE_ROUNDS_MAX) {
    finalize_rounds_count--;
    memmove(finalize_rounds, finalize_rounds + 1, finalize_rounds_count * sizeof(round));
  }
  finalize_rounds[finalize_rounds_count++] = round;
  finalize_skipped = 0;
}

static bool finalize_may_start(struct finalize_round round) {
  finalize_forget(round);
  return finalize_rounds_count == 0 || ++finalize_skipped >= 1U << finalize_rounds_count;
}

/* ---- running ---- */

int GC_should_invoke_finalizers(void) { return midden_finalizers_ready(); }

int GC_invoke_finalizers(void) {
  enum { AT_ONCE = 64 };
  struct finalize_round round = finalize_round_at(__builtin_frame_address(0));
  size_t count = 0, ran;
  finalize_remember(round);
  do {
    ran = midden_finalizers_run(AT_ONCE);
    count += ran;
  } while (ran > 0);
  finalize_forget(round);
  return (int)count;
}

static SHIM_THREAD_LOCAL bool finalize_runs_all; /* and so needs no notification */

void finalize_notify(void *unused) {
  (void)unused;
  if (finalize_runs_all) return;
  if (!GC_finalize_on_demand) {
    if (finalize_may_start(finalize_round_at(__builtin_frame_address(0)))) GC_invoke_finalizers();
    return;
  }
  GC_finalizer_notifier_proc notifier = GC_finalizer_notifier;
  if (notifier) notifier();
}

/* Finalizers may register others; the program ends only when there are none.  The notifier is not called, as in libgc. */
void GC_finalize_all(void) {
  do {
    finalize_runs_all = true;
    midden_finalizers_ready_all();
    finalize_runs_all = false;
  } while (GC_invoke_finalizers() > 0);
}

/* ---- objects allocated together with a finalizer ---- */

void GC_init_finalized_malloc(void) {}

static void finalize_call_closure(void *object, void *argument) {
  const struct GC_finalizer_closure *closure = argument;
  closure->proc(object, closure->cd);
}

/* What such an object refers to is whole when its closure is called: it may be such objects, too, whose closures wait. */
void *GC_finalized_malloc(size_t bytes, const struct GC_finalizer_closure *closure) {
  void *object = midden_alloc(bytes);
  if (!midden_size(object)) return object; /* none, or what the program's own function returned */
  int result = midden_finalizer_set(object, finalize_call_closure, (void *)(uintptr_t)closure, MIDDEN_FINALIZE_ORDERED,
                                    NULL, NULL);
  if (result < 0) {
    midden_free(object);
    return report_out_of_memory(bytes);
  }
  return object;
}
