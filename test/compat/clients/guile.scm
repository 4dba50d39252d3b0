;; Work of many kinds that prints the same on every collector.  No threads: where a thread is stopped between pushing
;; arguments and moving its stack pointer, Guile 3.0 gives the page under them back to the system while it marks.
(use-modules (srfi srfi-1) (srfi srfi-9) (oop goops))

(define (show name . values)
  (display name)
  (for-each (lambda (value) (display " ") (write value)) values)
  (newline))

;; Records in a search tree.
(define-record-type <node>
  (make-node key left right)
  node?
  (key node-key)
  (left node-left set-node-left!)
  (right node-right set-node-right!))

(define (insert tree key)
  (cond ((not tree) (make-node key #f #f))
        ((< key (node-key tree)) (set-node-left! tree (insert (node-left tree) key)) tree)
        ((> key (node-key tree)) (set-node-right! tree (insert (node-right tree) key)) tree)
        (else tree)))

(define (walk tree)
  (if tree (append (walk (node-left tree)) (cons (node-key tree) (walk (node-right tree)))) '()))

(define (scatter n) (modulo (* n 7919) 10007))
(let ((keys (walk (fold (lambda (n tree) (insert tree (scatter n))) #f (iota 1500)))))
  (show "tree" (length keys) (first keys) (last keys) (apply < keys)))

;; Strings, symbols, bignums.
(show "strings"
      (string-length (string-concatenate (map number->string (iota 3000))))
      (length (delete-duplicates (map (lambda (n) (string->symbol (format #f "s~a" (modulo n 97)))) (iota 500)) eq?)))
(show "factorial" (modulo (fold * 1 (iota 600 1)) 1000003) (exact->inexact 1/7))

;; Continuations and generators.
(define (generate-list items)
  (define return #f)
  (define (next)
    (call/cc (lambda (r)
               (set! return r)
               (for-each (lambda (item) (call/cc (lambda (k) (set! next (lambda () (k #f))) (return item)))) items)
               (return 'end))))
  (lambda () (call/cc (lambda (r) (set! return r) (next)))))
(let ((g (generate-list '(1 2 3))))
  (let* ((a (g)) (b (g)) (c (g)))
    (show "generator" a b c)))

;; Hash tables that grow, and a weak one.
(let ((table (make-hash-table)))
  (do ((n 0 (1+ n))) ((= n 5000)) (hash-set! table (format #f "key ~a" n) (list n (* n n))))
  (show "table" (hash-count (const #t) table) (hash-ref table "key 4321")))

(let ((weak (make-weak-key-hash-table)) (kept (map (lambda (n) (list n)) (iota 50))))
  (for-each (lambda (key) (hash-set! weak key (car key))) kept)
  (do ((n 0 (1+ n))) ((= n 2000)) (hash-set! weak (list n) n))
  (gc)
  (show "weak" (fold + 0 (map (lambda (key) (hash-ref weak key)) kept)) (< (hash-fold (lambda (key value n) (1+ n)) 0 weak) 2050)))

;; Guardians: objects come back after they died, each once.
(let ((guardian (make-guardian)))
  (do ((n 0 (1+ n))) ((= n 300)) (guardian (vector n)))
  (gc) (gc)
  (let loop ((back '()))
    (let ((object (guardian)))
      (if object
          (loop (cons (vector-ref object 0) back))
          (show "guardian" (> (length back) 250) (= (length back) (length (delete-duplicates back))))))))

;; Deep recursion: a stack that grows far.
(define (deep n) (if (zero? n) 0 (1+ (deep (1- n)))))
(show "deep" (deep 100000))

;; Classes and generic functions.
(define-class <shape> () (side #:init-keyword #:side #:getter side))
(define-class <square> (<shape>))
(define-method (area (shape <square>)) (* (side shape) (side shape)))
(show "classes" (fold + 0 (map (lambda (n) (area (make <square> #:side n))) (iota 300))))

;; Enough garbage for a few collections.
(let loop ((n 0) (list '()))
  (if (< n 300) (loop (1+ n) (make-list 3000 n)) (show "garbage" (length list) (car list))))
