package hive

// check walks the whole hive and makes sure that every cell belongs to one owner, but for security items, which keys
// share and which count them. Freeing a cell that something else also refers to would destroy that.
func (h *Hive) check() error {
	owned := make([]byte, len(h.edit.starts))
	own := func(offset uint32) error {
		if _, err := h.cell(offset); err != nil {
			return err
		}
		bit := byte(1) << (offset / 8 % 8)
		if owned[offset/64]&bit != 0 {
			return damaged(offset, "a cell that only one record refers to")
		}
		owned[offset/64] |= bit
		return nil
	}
	security := map[uint32]uint32{} // references to each item
	err := h.Walk(func(_ []string, k Key) error {
		n, err := h.node(k.offset)
		if err != nil {
			return err
		}
		cells := []uint32{k.offset}
		if le.Uint32(n[nodeSubkeys:]) > 0 {
			list := le.Uint32(n[nodeSubkeyList:])
			c, err := h.cell(list)
			if err != nil {
				return err
			}
			cells = append(append(cells, list), rootLeaves(c)...)
		}
		if le.Uint16(n[nodeClassLength:]) > 0 {
			cells = append(cells, le.Uint32(n[nodeClass:]))
		}
		if item := le.Uint32(n[nodeSecurity:]); item != nowhere {
			security[item]++
		}
		values, err := h.valueList(n)
		if err != nil {
			return err
		}
		if len(values) > 0 {
			cells = append(cells, le.Uint32(n[nodeValueList:]))
		}
		for _, v := range values {
			more, err := h.valueCells(v)
			if err != nil {
				return err
			}
			cells = append(cells, more...)
		}
		for _, cell := range cells {
			if err := own(cell); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for item, references := range security {
		s, err := h.record(item, "sk", securityData)
		if err != nil {
			return err
		}
		if count := le.Uint32(s[securityCount:]); count < references || count > h.size {
			return damaged(item, "a security item that counts the keys that refer to it")
		}
		if err := own(item); err != nil {
			return err
		}
	}
	return nil
}

// valueCells are the cells of a value and its data.
func (h *Hive) valueCells(offset uint32) ([]uint32, error) {
	if _, err := h.value(offset); err != nil {
		return nil, err
	}
	v := h.at(offset)
	cells := []uint32{offset}
	size, data := le.Uint32(v[valueSize:]), le.Uint32(v[valueData:])
	if size&valueInline != 0 || size == 0 {
		return cells, nil
	}
	if size > segment && h.minor() >= bigDataMin {
		list, segments, err := h.segments(data)
		return append(append(cells, data, list), segments...), err
	}
	return append(cells, data), nil
}

// rootLeaves are the lists that an index root refers to; none for another list.
func rootLeaves(c []byte) []uint32 {
	if len(c) < 4 || string(c[:2]) != "ri" {
		return nil
	}
	var leaves []uint32
	for i := range min(int(le.Uint16(c[2:])), (len(c)-4)/4) {
		leaves = append(leaves, le.Uint32(c[4+4*i:]))
	}
	return leaves
}
