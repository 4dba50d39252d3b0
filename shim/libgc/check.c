/* Checks of pointer arithmetic, which the macros of gc.h call when GC_DEBUG is defined.
 *
 * Each function returns its argument.  Where a check fails it calls the program's print procedure; the default ends the
 * process. */
#include "shim.h"

static void check_same_obj_failed(void *p, void *q) {
  (void)p;
  (void)q;
  report_fatal("GC_same_obj test failed");
}

static void check_visible_failed(void *p) {
  (void)p;
  report_fatal("GC_is_visible test failed");
}

static void check_displacement_failed(void *p) {
  (void)p;
  report_fatal("GC_is_valid_displacement test failed");
}

void (*GC_same_obj_print_proc)(void *, void *) = check_same_obj_failed;
void (*GC_is_visible_print_proc)(void *) = check_visible_failed;
void (*GC_is_valid_displacement_print_proc)(void *) = check_displacement_failed;

/* The address one past an object's end still belongs to it. */
static bool check_belongs(char *p, char *base) { return midden_base(p) == base || p == base + midden_size(base); }

void *GC_same_obj(void *p, void *q) {
  void *base = midden_base(q);
  bool same = base ? check_belongs(p, base) : !midden_base(p);
  if (!same) GC_same_obj_print_proc(p, q);
  return p;
}

void *GC_pre_incr(void **p, ptrdiff_t bytes) {
  *p = GC_same_obj((char *)*p + bytes, *p);
  return *p;
}

void *GC_post_incr(void **p, ptrdiff_t bytes) {
  void *before = *p;
  *p = GC_same_obj((char *)before + bytes, before);
  return before;
}

/* Pointers stored at an address must be where the collector looks: at whole words, not in pointer-free objects. */
void *GC_is_visible(void *p) {
  int kind = midden_kind_of(p);
  bool pointer_free = kind == MIDDEN_DATA || kind == MIDDEN_RAW || kind == MIDDEN_ROOT_DATA;
  if (((GC_word)p & (sizeof(void *) - 1)) != 0 || pointer_free) GC_is_visible_print_proc(p);
  return p;
}

/* Every address in an object holds it. */
void *GC_is_valid_displacement(void *p) { return p; }
