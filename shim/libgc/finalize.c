/* Finalizers.
 *
 * libgc's four registrations are midden's four orders.  When a collection makes finalizers ready, midden tells the
 * thread that collected; unless the program runs them on demand they run right there, in the middle of whatever called
 * the allocator, so a thread never starts a second round inside a finalizer. */
#include "shim.h"

#include "gc/gc_disclaim.h"
#include "gc/javaxfc.h"

static SHIM_THREAD_LOCAL bool finalize_running;

/* ---- registration ---- */

static void finalize_set(void *object, GC_finalization_proc function, void *argument, enum midden_finalizer_order order,
                         GC_finalization_proc *old_function, void **old_argument) {
  GC_finalization_proc function_before = NULL;
  void *argument_before = NULL;
  int result = midden_finalizer_set(object, function, argument, order, &function_before, &argument_before);
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

/* ---- running ---- */

int GC_should_invoke_finalizers(void) { return midden_finalizers_ready(); }

int GC_invoke_finalizers(void) {
  enum { AT_ONCE = 64 };
  bool outer = finalize_running;
  size_t count = 0, ran;
  finalize_running = true;
  do {
    ran = midden_finalizers_run(AT_ONCE);
    count += ran;
  } while (ran > 0);
  finalize_running = outer;
  return (int)count;
}

void finalize_notify(void *unused) {
  (void)unused;
  if (!GC_finalize_on_demand) {
    if (!finalize_running) GC_invoke_finalizers();
    return;
  }
  GC_finalizer_notifier_proc notifier = GC_finalizer_notifier;
  if (notifier) notifier();
}

/* Finalizers may register others; the program ends only when there are none. */
void GC_finalize_all(void) {
  do {
    midden_finalizers_ready_all();
  } while (GC_invoke_finalizers() > 0);
}

/* ---- objects allocated together with a finalizer ---- */

void GC_init_finalized_malloc(void) {}

static void finalize_call_closure(void *object, void *argument) {
  const struct GC_finalizer_closure *closure = argument;
  closure->proc(object, closure->cd);
}

void *GC_finalized_malloc(size_t bytes, const struct GC_finalizer_closure *closure) {
  void *object = midden_alloc(bytes);
  if (!object) return NULL;
  int result = midden_finalizer_set(object, finalize_call_closure, (void *)(uintptr_t)closure,
                                    MIDDEN_FINALIZE_UNORDERED, NULL, NULL);
  if (result < 0) {
    midden_free(object);
    return report_out_of_memory(bytes);
  }
  return object;
}
