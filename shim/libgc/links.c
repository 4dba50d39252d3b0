/* Disappearing links: libgc's names for midden's weak links.  Short links are cleared before finalizers run, long ones
 * when nothing can bring the object back.
 *
 * A link must be a whole word's address: for registering and for the new place of a moved link anything else ends the
 * process, as in libgc; elsewhere such a link just is not registered.
 *
 * Where there is no memory for a link the program's function is asked, which may find some. */
#include <errno.h>

#include "shim.h"

enum { LINKS_BYTES = 32 }; /* what a registration is said to ask for where there is no memory */

static bool links_aligned(void **link) { return link && ((GC_word)link & (sizeof(void *) - 1)) == 0; }

static int links_register(void **link, const void *object, enum midden_weak_when when) {
  if (!links_aligned(link)) report_fatal("libgc: a disappearing link is NULL or not aligned");
  if (GC_find_leak) return GC_UNIMPLEMENTED;
  int result = midden_weak_link(link, object, when);
  if (result == -ENOMEM && report_out_of_memory(LINKS_BYTES)) result = midden_weak_link(link, object, when);
  switch (result) {
    case -EEXIST:
      return GC_DUPLICATE;
    case -ENOMEM:
      return GC_NO_MEMORY;
    default:
      return GC_SUCCESS; /* also for what is no object, and so is never found dead */
  }
}

static int links_unregister(void **link, enum midden_weak_when when) {
  return links_aligned(link) && midden_weak_unlink(link, when) == 0;
}

static int links_move(void **link, void **new_link, enum midden_weak_when when) {
  if (!links_aligned(new_link)) report_fatal("libgc: a disappearing link's new place is NULL or not aligned");
  if (!links_aligned(link)) return GC_NOT_FOUND;
  switch (midden_weak_move(link, new_link, when)) {
    case -ENOENT:
      return GC_NOT_FOUND;
    case -EEXIST:
      return link == new_link ? GC_SUCCESS : GC_DUPLICATE;
    default:
      return GC_SUCCESS;
  }
}

int GC_general_register_disappearing_link(void **link, const void *object) {
  return links_register(link, object, MIDDEN_WEAK_BEFORE_FINALIZERS);
}

int GC_register_disappearing_link(void **link) {
  void *object = midden_base(link);
  if (!object) report_fatal("libgc: a disappearing link without an object lies in no object");
  return links_register(link, object, MIDDEN_WEAK_BEFORE_FINALIZERS);
}

int GC_move_disappearing_link(void **link, void **new_link) {
  return links_move(link, new_link, MIDDEN_WEAK_BEFORE_FINALIZERS);
}

int GC_unregister_disappearing_link(void **link) { return links_unregister(link, MIDDEN_WEAK_BEFORE_FINALIZERS); }

int GC_register_long_link(void **link, const void *object) {
  return links_register(link, object, MIDDEN_WEAK_AFTER_FINALIZERS);
}

int GC_move_long_link(void **link, void **new_link) { return links_move(link, new_link, MIDDEN_WEAK_AFTER_FINALIZERS); }

int GC_unregister_long_link(void **link) { return links_unregister(link, MIDDEN_WEAK_AFTER_FINALIZERS); }
