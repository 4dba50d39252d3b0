/* Toggle references: objects of which the program says at the start of each collection whether they are held.
 *
 * Each is a node in malloc memory, which the collector does not read: its `object` is a weak link that midden clears
 * when the object dies, and the root callback reports it where it is strong.  Nodes are linked in under toggleref_lock
 * by GC_toggleref_add alone, at the front, with one store, so that a collection may walk the list at any time; and only
 * GC_toggleref_add takes nodes out, those that died or were dropped. */
#include <pthread.h>
#include <stdlib.h>

#include "shim.h"

struct toggleref {
  struct toggleref *next;
  void *object; /* NULL: dead; a weak link */
  bool strong;
  bool dropped; /* set by collections, which may not unlink */
};

static pthread_mutex_t toggleref_lock = PTHREAD_MUTEX_INITIALIZER;
static struct toggleref *toggleref_list;     /* written under the lock; read by collections */
static GC_toggleref_func toggleref_function; /* atomic */

void GC_set_toggleref_func(GC_toggleref_func function) {
  __atomic_store_n(&toggleref_function, function, __ATOMIC_RELEASE);
}

GC_toggleref_func GC_get_toggleref_func(void) { return __atomic_load_n(&toggleref_function, __ATOMIC_ACQUIRE); }

void toggleref_update(void) {
  GC_toggleref_func function = GC_get_toggleref_func();
  if (!function) return;
  for (struct toggleref *ref = toggleref_list; ref; ref = ref->next) {
    if (!ref->object || ref->dropped) continue;
    GC_ToggleRefStatus status = function(ref->object);
    ref->dropped = status == GC_TOGGLE_REF_DROP;
    ref->strong = status == GC_TOGGLE_REF_STRONG;
  }
}

void toggleref_trace(struct midden_tracer *tracer) {
  for (struct toggleref *ref = toggleref_list; ref; ref = ref->next)
    if (ref->strong) midden_trace(tracer, ref->object);
}

/* Frees nodes that serve nothing any more.  With collections disabled: they walk the list. */
static void toggleref_prune_locked(void) {
  midden_disable();
  for (struct toggleref **at = &toggleref_list; *at;) {
    struct toggleref *ref = *at;
    if (ref->object && !ref->dropped) {
      at = &ref->next;
      continue;
    }
    midden_weak_unlink(&ref->object, MIDDEN_WEAK_AFTER_FINALIZERS);
    *at = ref->next;
    free(ref);
  }
  midden_enable();
}

int GC_toggleref_add(void *object, int is_strong) {
  if (!GC_get_toggleref_func()) return GC_SUCCESS;
  struct toggleref *ref = malloc(sizeof(*ref));
  if (!ref) return GC_NO_MEMORY;
  *ref = (struct toggleref){.object = object, .strong = is_strong != 0};
  if (midden_weak_link(&ref->object, object, MIDDEN_WEAK_AFTER_FINALIZERS) < 0) {
    free(ref);
    return GC_NO_MEMORY;
  }
  pthread_mutex_lock(&toggleref_lock);
  toggleref_prune_locked();
  ref->next = toggleref_list;
  __atomic_store_n(&toggleref_list, ref, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&toggleref_lock);
  return GC_SUCCESS;
}
