// Programs that load this module never call it: see package.json.
module.exports = {};
