/* Allocators for the containers of the C++ library.
 *
 *   gc_allocator<T>                    collected; without pointers where GC_DECLARE_PTRFREE says so of T
 *   gc_allocator_ignore_off_page<T>    the same, for large objects held by a pointer to their start
 *   traceable_allocator<T>             not collected, but seen by the collector: for what is held from malloc memory */
#ifndef GC_ALLOCATOR_H
#define GC_ALLOCATOR_H

#include <new>

#include "gc.h"

#ifdef GC_NEW_ABORTS_ON_OOM
#define GC_ALLOCATOR_THROW_OR_ABORT() GC_abort_on_oom()
#else
#define GC_ALLOCATOR_THROW_OR_ABORT() throw std::bad_alloc()
#endif

struct GC_true_type {};
struct GC_false_type {};

template <class T>
struct GC_type_traits {
  GC_false_type GC_is_ptr_free;
};

#define GC_DECLARE_PTRFREE(T)    \
  template <>                    \
  struct GC_type_traits<T> {     \
    GC_true_type GC_is_ptr_free; \
  }

GC_DECLARE_PTRFREE(char);
GC_DECLARE_PTRFREE(signed char);
GC_DECLARE_PTRFREE(unsigned char);
GC_DECLARE_PTRFREE(signed short);
GC_DECLARE_PTRFREE(unsigned short);
GC_DECLARE_PTRFREE(signed int);
GC_DECLARE_PTRFREE(unsigned int);
GC_DECLARE_PTRFREE(signed long);
GC_DECLARE_PTRFREE(unsigned long);
GC_DECLARE_PTRFREE(float);
GC_DECLARE_PTRFREE(double);
GC_DECLARE_PTRFREE(long double);

inline void *GC_allocator_check(void *object) {
  if (!object) GC_ALLOCATOR_THROW_OR_ABORT();
  return object;
}

inline void *GC_selective_alloc(size_t bytes, GC_false_type, bool ignore_off_page) {
  return GC_allocator_check(ignore_off_page ? GC_MALLOC_IGNORE_OFF_PAGE(bytes) : GC_MALLOC(bytes));
}

inline void *GC_selective_alloc(size_t bytes, GC_true_type, bool ignore_off_page) {
  return GC_allocator_check(ignore_off_page ? GC_MALLOC_ATOMIC_IGNORE_OFF_PAGE(bytes) : GC_MALLOC_ATOMIC(bytes));
}

/* What the three allocators share; Self<T>::raw(bytes) finds the memory. */
template <template <class> class Self, class T>
class GC_allocator_base {
 public:
  typedef size_t size_type;
  typedef ptrdiff_t difference_type;
  typedef T *pointer;
  typedef const T *const_pointer;
  typedef T &reference;
  typedef const T &const_reference;
  typedef T value_type;

  template <class U>
  struct rebind {
    typedef Self<U> other;
  };

  pointer address(reference x) const { return &x; }
  const_pointer address(const_reference x) const { return &x; }

  T *allocate(size_type count, const void * = 0) {
    if (count > max_size()) GC_ALLOCATOR_THROW_OR_ABORT();
    return static_cast<T *>(Self<T>::raw(count * sizeof(T)));
  }
  void deallocate(pointer object, size_type) GC_NOEXCEPT { GC_FREE(object); }

  size_type max_size() const GC_NOEXCEPT { return size_t(-1) / sizeof(T); }
  void construct(pointer object, const T &value) { new (object) T(value); }
  void destroy(pointer object) { object->~T(); }
};

#define GC_DEFINE_ALLOCATOR(name, expression)                            \
  template <class T>                                                     \
  class name : public GC_allocator_base<name, T> {                       \
   public:                                                               \
    name() GC_NOEXCEPT {}                                                \
    name(const name &) GC_NOEXCEPT {}                                    \
    template <class U>                                                   \
    GC_ATTR_EXPLICIT name(const name<U> &) GC_NOEXCEPT {}                \
    ~name() GC_NOEXCEPT {}                                               \
    name &operator=(const name &) GC_NOEXCEPT { return *this; }          \
    static void *raw(size_t bytes) { return expression; }                \
  };                                                                     \
  template <>                                                            \
  class name<void> {                                                     \
   public:                                                               \
    typedef size_t size_type;                                            \
    typedef ptrdiff_t difference_type;                                   \
    typedef void *pointer;                                               \
    typedef const void *const_pointer;                                   \
    typedef void value_type;                                             \
    template <class U>                                                   \
    struct rebind {                                                      \
      typedef name<U> other;                                             \
    };                                                                   \
  };                                                                     \
  template <class T, class U>                                            \
  inline bool operator==(const name<T> &, const name<U> &) GC_NOEXCEPT { \
    return true;                                                         \
  }                                                                      \
  template <class T, class U>                                            \
  inline bool operator!=(const name<T> &, const name<U> &) GC_NOEXCEPT { \
    return false;                                                        \
  }

GC_DEFINE_ALLOCATOR(gc_allocator, GC_selective_alloc(bytes, GC_type_traits<T>().GC_is_ptr_free, false))
GC_DEFINE_ALLOCATOR(gc_allocator_ignore_off_page, GC_selective_alloc(bytes, GC_type_traits<T>().GC_is_ptr_free, true))
GC_DEFINE_ALLOCATOR(traceable_allocator, GC_allocator_check(GC_MALLOC_UNCOLLECTABLE(bytes)))

#undef GC_DEFINE_ALLOCATOR

#endif
