"""Image Patcher: from a provisioned machine to patches installed. Five rooms, named by what may be in them:

model/      what we know and remember   text state machine record image_record told stop notice. Nouns; the
                                        standard library only
policy/     what the owner wants        settings tags grammar windows zones window_grammar. May import model
decisions/  what follows                decision ownership rollout plan compliance diagnosis retry notices. Pure; may
                                        import model and policy
cloud/      how we reach Azure          session errors translation models arm resource_graph queries/ event_grid queue
                                        tables rows ledger notes stops notices. Raw facts: no decisions, no remedies
steps/      doing it                    assess install poison start holds; of the sweep: reconcile sweep track find
                                        planning dispatching states report outlook changes notices. Async; the only
                                        room with effects and rules together
journal     log events as JSON lines;   services: what a step is given, and where it is built

An event or a message: function_app.py → steps/assess or steps/install → steps/start → cloud/arm.
A sweep: function_app.py → steps/reconcile: track → find → planning → dispatching → report.
model, policy and decisions never await, read a clock or do I/O; cloud and decisions never import each other.
tests/unit/test_structure.py holds every arrow; files may be arranged freely inside a room.
"""
