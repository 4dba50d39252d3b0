/* C++ classes in the collected heap.
 *
 *   class A : public gc            `new A` is collected, without a destructor call
 *   class B : public gc_cleanup    the same, and the destructor runs once the object is unreachable
 *   new (UseGC) T, new (NoGC) T, new (PointerFreeGC) T    for any type; NoGC objects live until delete
 *
 * Memory shortage throws std::bad_alloc, or ends the process where exceptions are off. */
#ifndef GC_CPP_H
#define GC_CPP_H

#include <new>

#include "gc.h"

#ifdef GC_NAMESPACE
#define GC_NS_QUALIFY(name) boehmgc::name
#else
#define GC_NS_QUALIFY(name) name
#endif

#ifdef GC_NEW_ABORTS_ON_OOM
#define GC_OP_NEW_OOM_CHECK(object)   \
  do {                                \
    if (!(object)) GC_abort_on_oom(); \
  } while (0)
#else
#define GC_OP_NEW_OOM_CHECK(object)        \
  do {                                     \
    if (!(object)) throw std::bad_alloc(); \
  } while (0)
#endif

#ifdef GC_NAMESPACE
namespace boehmgc {
#endif

enum GCPlacement {
  UseGC,
#ifndef GC_NAME_CONFLICT
  GC = UseGC,
#endif
  NoGC,
  PointerFreeGC
#ifdef GC_ATOMIC_UNCOLLECTABLE
  ,
  PointerFreeNoGC
#endif
};

extern "C" {
typedef void(GC_CALLBACK *GCCleanUpFunc)(void *object, void *argument);
}

/* The memory for a placement, or NULL. */
inline void *GC_place(size_t bytes, GCPlacement placement) {
  switch (placement) {
    case UseGC:
      return GC_MALLOC(bytes);
    case PointerFreeGC:
      return GC_MALLOC_ATOMIC(bytes);
#ifdef GC_ATOMIC_UNCOLLECTABLE
    case PointerFreeNoGC:
      return GC_MALLOC_ATOMIC_UNCOLLECTABLE(bytes);
#endif
    case NoGC:
      break;
  }
  return GC_MALLOC_UNCOLLECTABLE(bytes);
}

inline void *GC_place_or_throw(size_t bytes, GCPlacement placement) {
  void *object = GC_place(bytes, placement);
  GC_OP_NEW_OOM_CHECK(object);
  return object;
}

class gc {
 public:
  void *operator new(size_t bytes) { return GC_place_or_throw(bytes, UseGC); }
  void *operator new(size_t bytes, GCPlacement placement) { return GC_place_or_throw(bytes, placement); }
  void *operator new(size_t, void *where) GC_NOEXCEPT { return where; }
  void operator delete(void *object) GC_NOEXCEPT { GC_FREE(object); }
  void operator delete(void *object, GCPlacement) GC_NOEXCEPT { GC_FREE(object); }
  void operator delete(void *, void *) GC_NOEXCEPT {}

  void *operator new[](size_t bytes) { return GC_place_or_throw(bytes, UseGC); }
  void *operator new[](size_t bytes, GCPlacement placement) { return GC_place_or_throw(bytes, placement); }
  void *operator new[](size_t, void *where) GC_NOEXCEPT { return where; }
  void operator delete[](void *object) GC_NOEXCEPT { GC_FREE(object); }
  void operator delete[](void *object, GCPlacement) GC_NOEXCEPT { GC_FREE(object); }
  void operator delete[](void *, void *) GC_NOEXCEPT {}
};

/* The constructor registers the destructor as finalizer, unless the object that this one is part of has a finalizer
 * already: that one runs this destructor as well. */
class gc_cleanup : virtual public gc {
 public:
  inline gc_cleanup();
  inline virtual ~gc_cleanup();

 private:
  inline static void GC_CALLBACK cleanup(void *object, void *offset);
};

inline gc_cleanup::gc_cleanup() {
  void *self = this;
  void *base = GC_base(self);
  if (!base) return;
  GC_finalization_proc before = 0;
  void *argument = 0;
  ptrdiff_t offset = static_cast<char *>(self) - static_cast<char *>(base);
  GC_register_finalizer_ignore_self(base, cleanup, reinterpret_cast<void *>(offset), &before, &argument);
  if (before) GC_register_finalizer_ignore_self(base, before, argument, 0, 0);
}

inline gc_cleanup::~gc_cleanup() {
  void *base = GC_base(this);
  if (base) GC_register_finalizer_ignore_self(base, 0, 0, 0, 0);
}

inline void GC_CALLBACK gc_cleanup::cleanup(void *object, void *offset) {
  char *self = static_cast<char *>(object) + reinterpret_cast<ptrdiff_t>(offset);
  reinterpret_cast<gc_cleanup *>(self)->~gc_cleanup();
}

#ifdef GC_NAMESPACE
}
#endif

/* For types without the base class.  `cleanup` becomes the finalizer of an object placed with UseGC. */
inline void *operator new(size_t bytes, GC_NS_QUALIFY(GCPlacement) placement, GC_NS_QUALIFY(GCCleanUpFunc) cleanup = 0,
                          void *argument = 0) {
  void *object = GC_NS_QUALIFY(GC_place_or_throw)(bytes, placement);
  if (cleanup && placement == GC_NS_QUALIFY(UseGC)) GC_REGISTER_FINALIZER_IGNORE_SELF(object, cleanup, argument, 0, 0);
  return object;
}
inline void operator delete(void *object, GC_NS_QUALIFY(GCPlacement), GC_NS_QUALIFY(GCCleanUpFunc),
                            void *) GC_NOEXCEPT {
  GC_FREE(object);
}
inline void *operator new[](size_t bytes, GC_NS_QUALIFY(GCPlacement) placement,
                            GC_NS_QUALIFY(GCCleanUpFunc) cleanup = 0, void *argument = 0) {
  return ::operator new(bytes, placement, cleanup, argument);
}

#endif
