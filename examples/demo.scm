;; The workload of `make demo`: what a compiler or an indexer does all day, in plain Guile Scheme.
;;
;; It writes a large text by chance, reads it back word by word, keeps an index of every word twice (in a hash table and
;; in a persistent balanced tree whose old versions stay alive), edits the index, searches it with memory, and sorts and
;; joins the answers.  Several hundred thousand objects are alive at any time while far more come and go.
;;
;; Everything follows from one seed, so the checksum at the end is the same on every machine and on every collector; the
;; parts also check each other, and the program ends with status 1 if anything disagrees.

(use-modules (srfi srfi-1) (srfi srfi-9) (ice-9 format))

(define expected-checksum 3226938917)

(define (check what ok?)
  (unless ok?
    (format (current-error-port) "demo: wrong result: ~a~%" what)
    (exit 1)))

;; ---- chance: a linear congruential generator, so that runs are alike ----

(define seed 20177)
(define (chance! n)
  (set! seed (modulo (+ (* seed 1103515245) 12345) 2147483648))
  (modulo (quotient seed 64) n))

;; ---- a text: lines of words, a few words frequent and most of them rare ----

(define syllables
  #("ka" "ro" "mi" "ten" "sol" "va" "bri" "no" "lu" "pe" "dor" "ix" "an" "es" "qua" "ful"))

(define (word-of number)
  (let loop ((n number) (parts '()))
    (if (< n 16)
        (string-concatenate (cons (vector-ref syllables n) parts))
        (loop (quotient n 16) (cons (vector-ref syllables (modulo n 16)) parts)))))

(define (any-word vocabulary)
  (word-of (if (< (chance! 4) 1) (chance! 500) (chance! vocabulary))))

(define (make-line words vocabulary)
  (string-join (map-in-order (lambda (ignored) (any-word vocabulary)) (iota words)) " "))

(define (make-text lines words vocabulary)
  (map-in-order (lambda (ignored) (make-line words vocabulary)) (iota lines)))

;; ---- what the index knows about a word ----

(define-record-type entry
  (make-entry word count places)
  entry?
  (word entry-word)
  (count entry-count)
  (places entry-places))

(define (entry-add old word place)
  (if old
      (make-entry word (+ 1 (entry-count old)) (cons place (entry-places old)))
      (make-entry word 1 (list place))))

;; ---- a persistent balanced tree (AVL) from words to entries ----

(define-record-type node
  (make-node* key value left right height size)
  node?
  (key node-key)
  (value node-value)
  (left node-left)
  (right node-right)
  (height node-height)
  (size node-size))

(define (height tree) (if tree (node-height tree) 0))
(define (size tree) (if tree (node-size tree) 0))

(define (make-node key value left right)
  (make-node* key value left right
              (+ 1 (max (height left) (height right)))
              (+ 1 (size left) (size right))))

(define (rotate-right tree)
  (let ((left (node-left tree)))
    (make-node (node-key left) (node-value left) (node-left left)
               (make-node (node-key tree) (node-value tree) (node-right left) (node-right tree)))))

(define (rotate-left tree)
  (let ((right (node-right tree)))
    (make-node (node-key right) (node-value right)
               (make-node (node-key tree) (node-value tree) (node-left tree) (node-left right))
               (node-right right))))

(define (balance key value left right)
  (cond ((> (height left) (+ 1 (height right)))
         (rotate-right
          (make-node key value
                     (if (> (height (node-right left)) (height (node-left left))) (rotate-left left) left)
                     right)))
        ((> (height right) (+ 1 (height left)))
         (rotate-left
          (make-node key value left
                     (if (> (height (node-left right)) (height (node-right right))) (rotate-right right) right))))
        (else (make-node key value left right))))

;; The tree with the value at `key` replaced by (change old), old being #f where there was none.
(define (tree-update tree key change)
  (if (not tree)
      (make-node key (change #f) #f #f)
      (let ((k (node-key tree)))
        (cond ((string<? key k)
               (balance k (node-value tree) (tree-update (node-left tree) key change) (node-right tree)))
              ((string<? k key)
               (balance k (node-value tree) (node-left tree) (tree-update (node-right tree) key change)))
              (else
               (make-node k (change (node-value tree)) (node-left tree) (node-right tree)))))))

(define (tree-fold tree step start)
  (if (not tree)
      start
      (tree-fold (node-right tree) step
                 (step (node-value tree) (tree-fold (node-left tree) step start)))))

(define (tree-sound? tree)
  (or (not tree)
      (and (<= (abs (- (height (node-left tree)) (height (node-right tree)))) 1)
           (= (size tree) (+ 1 (size (node-left tree)) (size (node-right tree))))
           (tree-sound? (node-left tree))
           (tree-sound? (node-right tree)))))

;; ---- reading the text into both indexes ----

(define versions-kept 40)

;; Every some lines the tree of that moment is kept: an undo history, which shares most of its nodes.
(define (build-index text table)
  (let ((step (max 1 (quotient (length text) versions-kept))))
    (let loop ((lines text) (line 0) (tree #f) (versions '()))
      (if (null? lines)
          (values tree (cons tree versions))
          (let ((tree (fold (lambda (word tree)
                              (hash-set! table word (entry-add (hash-ref table word) word line))
                              (tree-update tree word (lambda (old) (entry-add old word line))))
                            tree
                            (string-tokenize (car lines)))))
            (loop (cdr lines) (+ line 1) tree
                  (if (= 0 (modulo line step)) (cons tree versions) versions)))))))

(define (same-in-both? tree table)
  (and (= (size tree) (hash-count (const #t) table))
       (tree-fold tree
                  (lambda (entry ok?)
                    (let ((other (hash-ref table (entry-word entry))))
                      (and ok? other
                           (= (entry-count entry) (entry-count other))
                           (equal? (entry-places entry) (entry-places other)))))
                  #t)))

;; ---- a search with memory: how many edits lie between two words ----

(define (edits a b)
  (let ((memory (make-hash-table)))
    (let distance ((i (string-length a)) (j (string-length b)))
      (cond ((= i 0) j)
            ((= j 0) i)
            ((hash-ref memory (cons i j)))
            (else
             (let ((least (if (char=? (string-ref a (- i 1)) (string-ref b (- j 1)))
                              (distance (- i 1) (- j 1))
                              (+ 1 (min (distance (- i 1) j) (distance i (- j 1))
                                        (distance (- i 1) (- j 1)))))))
               (hash-set! memory (cons i j) least)
               least))))))

(define (nearest word candidates)
  (fold (lambda (candidate best)
          (let ((distance (edits word candidate)))
            (if (< distance (car best)) (cons distance candidate) best)))
        (cons 1000 "")
        candidates))

;; ---- the report: most frequent words first ----

(define (frequent tree)
  (sort (tree-fold tree cons '())
        (lambda (a b)
          (or (> (entry-count a) (entry-count b))
              (and (= (entry-count a) (entry-count b)) (string<? (entry-word a) (entry-word b)))))))

(define (report entries)
  (string-join (map (lambda (entry)
                      (string-append (entry-word entry) ":" (number->string (entry-count entry))))
                    entries)
               "\n"))

(define (checksum text)
  (string-fold (lambda (char sum) (modulo (+ (* sum 31) (char->integer char)) 4294967291)) 7 text))

;; ---- all of it ----

(define lines 28000)
(define words-a-line 12)
(define vocabulary 300000)

(define text (make-text lines words-a-line vocabulary))
(define table (make-hash-table))
(define-values (index versions) (build-index text table))

(check "the tree is balanced" (tree-sound? index))
(check "tree and table agree" (same-in-both? index table))
(check "no word was lost"
       (= (* lines words-a-line) (tree-fold index (lambda (entry sum) (+ sum (entry-count entry))) 0)))
(check "older versions are smaller, and sound"
       (and (every tree-sound? versions)
            (apply >= (map size versions))))

(define ranked (frequent index))
(define questions (map-in-order (lambda (ignored) (any-word vocabulary)) (iota 12)))
(define candidates (map entry-word (take ranked 60)))
(define answers (map (lambda (question) (nearest question candidates)) questions))
(check "a word is nearest to itself" (every (lambda (word) (= 0 (car (nearest word (list word))))) candidates))

(define sum
  (checksum (string-append (report ranked) "\n"
                           (string-join (map (lambda (answer) (format #f "~a ~a" (car answer) (cdr answer))) answers)
                                        "\n"))))

(format #t "~a words, ~a different, ~a versions of the index; checksum ~a~%"
        (* lines words-a-line) (size index) (length versions) sum)
(check "the checksum" (= sum expected-checksum))
