/* Objects whose type structure holds their descriptor, as compilers for Java lay them out. */
#include "shim.h"

#include "gc/gc_gcj.h"

int GC_gcj_kind;
int GC_gcj_debug_kind;
static int gcj_kind_plain; /* of objects whose types lead to no mark procedure of the program */

/* The descriptor is the second word of the structure that the object's first word points to. */
#define GCJ_DESCRIPTOR ((GC_word)(-(GC_signed_word)sizeof(GC_word) - GC_INDIR_PER_OBJ_BIAS) | GC_DS_PER_OBJECT)

void GC_init_gcj_malloc(int index, void *procedure) {
  if (GC_gcj_kind) return;
  mark_set_proc((unsigned)index, (GC_mark_proc)procedure);
  GC_gcj_kind = (int)GC_new_kind(GC_new_free_list(), GCJ_DESCRIPTOR, 0, 1);
  gcj_kind_plain = (int)kinds_new(GCJ_DESCRIPTOR, 0, 1, false);
  kinds_know_as(gcj_kind_plain, GC_gcj_kind);
  GC_gcj_debug_kind = (int)GC_new_kind(GC_new_free_list(), GC_MAKE_PROC((GC_word)index, (GC_word)1), 0, 1);
}

/* The type is complete before it has objects. */
static bool gcj_is_plain(const void *type) {
  GC_word descriptor = type ? ((const GC_word *)type)[1] : 0;
  return descriptor && !mark_may_call(descriptor);
}

static void *gcj_alloc(size_t bytes, void *type, int kind) {
  if (bytes < sizeof(type)) bytes = sizeof(type);
  if (kind == GC_gcj_kind && gcj_is_plain(type)) kind = gcj_kind_plain;
  void **object = midden_alloc_kind(kinds_to_midden(kind), bytes);
  if (object) *object = type;
  return object;
}

void *GC_gcj_malloc(size_t bytes, void *type) { return gcj_alloc(bytes, type, GC_gcj_kind); }
void *GC_gcj_malloc_ignore_off_page(size_t bytes, void *type) { return gcj_alloc(bytes, type, GC_gcj_kind); }

void *GC_debug_gcj_malloc(size_t bytes, void *type, GC_EXTRA_PARAMS) {
  (void)s;
  (void)i;
  return gcj_alloc(bytes, type, GC_gcj_debug_kind);
}
