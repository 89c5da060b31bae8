// Named events with handlers that cannot hurt each other or whoever emits.

export class Emitter {
  #handlers = new Map();

  /** Calls `handler` with each later event of this kind; returns a function that ends that. */
  on(kind, handler) {
    if (!this.#handlers.has(kind)) this.#handlers.set(kind, new Set());
    this.#handlers.get(kind).add(handler);
    return () => this.#handlers.get(kind).delete(handler);
  }

  /**
   * Runs every handler of `kind`. One that throws is reported and the rest still run: a mistake in
   * what draws a message must not cost the connection that carried it.
   */
  emit(kind, value) {
    for (const handler of [...(this.#handlers.get(kind) ?? [])]) {
      try {
        handler(value)?.catch?.((error) => reportHandler(kind, error));
      } catch (error) {
        reportHandler(kind, error);
      }
    }
  }
}

function reportHandler(kind, error) {
  console.error(`a handler of "${kind}" threw:`, error);
}
