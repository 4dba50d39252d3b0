/* What the program's function returns when memory has run out is passed on by those too that would write behind the object, or
 * set a finalizer on it: nothing is written there, and it is no object.  (The stock library looks for its size.) */
#include <stdint.h>

#include "gc_check.h"

#include "gc/gc_disclaim.h"
#include "gc/gc_typed.h"

enum { OWN_BYTES = 192, OWN_BYTE = 0x41 };

static char own[OWN_BYTES];
static int asked;

static void *give_own(size_t bytes) {
  (void)bytes;
  asked++;
  return own + OWN_BYTES / 2;
}

static void finalize(void *object, void *data) { (void)object, (void)data; }

/* Compilers know that what allocates returns nothing that they know already. */
static void check_own(const void *volatile returned) {
  const void *result = returned;
  CHECK(asked == 1 && result == own + OWN_BYTES / 2);
  for (int i = 0; i < OWN_BYTES; i++) CHECK(own[i] == OWN_BYTE);
  asked = 0;
}

int main(void) {
  static const struct GC_finalizer_closure closure = {finalize, NULL};
  volatile size_t huge = SIZE_MAX / 2;
  GC_INIT();
  memset(own, OWN_BYTE, sizeof(own));
  GC_set_oom_fn(give_own);
  check_own(GC_malloc_explicitly_typed(huge, 0));
  check_own(GC_malloc_explicitly_typed_ignore_off_page(huge, 0));
  check_own(GC_calloc_explicitly_typed(1, huge, 0));
  check_own(GC_finalized_malloc(huge, &closure));
  return 0;
}
