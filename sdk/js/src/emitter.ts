/** Listeners by event. A listener that throws hurts no other one. */
export class Emitter<Events extends object> {
  #listeners = new Map<keyof Events, Set<(value: never) => void>>();

  /** Calls `listener` from now on. Returns what ends that. */
  on<Name extends keyof Events>(name: Name, listener: (value: Events[Name]) => void): () => void {
    if (typeof listener !== "function") throw new TypeError("a listener is a function");
    let set = this.#listeners.get(name);
    if (!set) this.#listeners.set(name, (set = new Set()));
    // A function of its own, so that the same listener may be added twice.
    const own = (value: Events[Name]): void => listener(value);
    set.add(own);
    return () => {
      set.delete(own);
    };
  }

  /** Calls `listener` once. */
  once<Name extends keyof Events>(name: Name, listener: (value: Events[Name]) => void): () => void {
    const off = this.on(name, (value) => {
      off();
      listener(value);
    });
    return off;
  }

  /** Whether anybody listens to anything. */
  protected get hasListeners(): boolean {
    return [...this.#listeners.values()].some((set) => set.size > 0);
  }

  protected emit<Name extends keyof Events>(name: Name, value: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      // One of those before it may have ended it.
      if (this.#listeners.get(name)?.has(listener)) guarded(listener as (value: Events[Name]) => void, value);
    }
  }

  protected removeListeners(): void {
    this.#listeners.clear();
  }
}

/** Calls what the application gave us. What it throws is reported as the page's own errors are. */
export function guarded<T>(callback: (value: T) => void, value: T): void {
  try {
    callback(value);
  } catch (error) {
    if (typeof reportError === "function") reportError(error);
    else console.error(error);
  }
}
